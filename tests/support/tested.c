#include "support/tested.h"

#include <stdlib.h>

static const struct dml_backend *backend = &dml_backend_cpu;

const struct dml_backend *tested(void) {
    return backend;
}

void test_backend(const struct dml_backend *other) {
    backend = other;
}

static const struct dml_class_banks *banks;

const struct dml_class_banks *tested_banks(void) {
    return banks;
}

void test_banks(const struct dml_class_banks *others) {
    banks = others;
}

bool tested_slowly(void) {
    return backend->abilities().gpu && !getenv("DML_TEST_CARD");
}
