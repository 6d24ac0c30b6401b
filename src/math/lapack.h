#ifndef DML_MATH_LAPACK_H
#define DML_MATH_LAPACK_H

#include "dml/error.h"

#include <lapacke.h>

/* The status of a LAPACKE call: DML_ERROR_MEMORY if it got no workspace; for any other failure
 * DML_ERROR_NUMERIC with the message `otherwise`. */
enum dml_status dml_lapack_check(lapack_int info, const char *otherwise);

#endif
