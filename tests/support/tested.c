#include "support/tested.h"

#include <stdlib.h>

static const struct dml_backend *backend = &dml_backend_cpu;

const struct dml_backend *tested(void) {
    return backend;
}

void test_backend(const struct dml_backend *other) {
    backend = other;
}

bool tested_slowly(void) {
    return backend->abilities().gpu && !getenv("DML_TEST_CARD");
}
