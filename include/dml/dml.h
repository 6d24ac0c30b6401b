#ifndef DML_DML_H
#define DML_DML_H

#include "dml/criteria.h"
#include "dml/error.h"
#include "dml/method.h"
#include "dml/metrics.h"
#include "dml/miners.h"
#include "dml/optimisers.h"
#include "dml/params.h"
#include "dml/plugin.h"
#include "dml/postprocess.h"
#include "dml/rng.h"
#include "dml/samplers.h"
#include "dml/schedules.h"
#include "dml/tuples.h"

#define DML_VERSION "0.2.0"

#endif
