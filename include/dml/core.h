#ifndef DML_CORE_H
#define DML_CORE_H

/* What libdml-core holds, which needs nothing but BLAS and LAPACK: methods, and evaluation. A
 * program links libdml-core or libdml, which holds all of it as well, not both. */
#include "dml/backbones.h"
#include "dml/criteria.h"
#include "dml/error.h"
#include "dml/messages.h"
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

#ifdef __cplusplus
extern "C" {
#endif

#define DML_VERSION "0.2.0"

/* DML_VERSION of the library that is linked, which may be newer than the headers. */
DML_API const char *dml_version(void);

#ifdef __cplusplus
}
#endif
#endif
