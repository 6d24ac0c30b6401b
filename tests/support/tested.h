#ifndef TESTS_SUPPORT_TESTED_H
#define TESTS_SUPPORT_TESTED_H

#include "backends/network.h"

/* The backend that a test's networks are made on: the CPU's, until `test_backend` says otherwise.
 * The tests of networks are built twice, once for each backend (CMakeLists.txt). */
const struct dml_backend *tested(void);
void test_backend(const struct dml_backend *backend);

#endif
