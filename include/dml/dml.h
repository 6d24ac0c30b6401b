#ifndef DML_DML_H
#define DML_DML_H

/* All of libdml. What libdml-core also holds is in core.h. */
#include "dml/core.h"
#include "dml/data.h"
#include "dml/graph.h"
#include "dml/network.h"
#include "dml/params_json.h"
#include "dml/training.h"

#endif
