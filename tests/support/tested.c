#include "support/tested.h"

static const struct dml_backend *backend = &dml_backend_cpu;

const struct dml_backend *tested(void) {
    return backend;
}

void test_backend(const struct dml_backend *other) {
    backend = other;
}
