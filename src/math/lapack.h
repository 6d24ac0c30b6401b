#ifndef DML_MATH_LAPACK_H
#define DML_MATH_LAPACK_H

#include "dml/error.h"

#include <lapacke.h>

/* What a call of LAPACKE came to: DML_ERROR_MEMORY where it got no workspace, otherwise for any
 * failure DML_ERROR_NUMERIC with the message `otherwise`. */
enum dml_status dml_lapack_check(lapack_int info, const char *otherwise);

#endif
