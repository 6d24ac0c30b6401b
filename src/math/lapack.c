#include "math/lapack.h"

enum dml_status dml_lapack_check(lapack_int info, const char *otherwise) {
    if (info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR)
        return dml_fail(DML_ERROR_MEMORY, "out of memory: workspace of LAPACK");
    return info ? dml_fail(DML_ERROR_NUMERIC, "%s", otherwise) : DML_OK;
}
