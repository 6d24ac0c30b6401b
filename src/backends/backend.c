#include "backends/backend.h"

const struct dml_backend *dml_backend_select(bool want_gpu) {
    (void)want_gpu; /* this build has no GPU backend */
    return &dml_backend_cpu;
}
