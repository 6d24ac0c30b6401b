#ifndef TESTS_SUPPORT_TESTED_H
#define TESTS_SUPPORT_TESTED_H

#include "backends/network.h"

/* The backend that a test's networks are made on: the CPU's, until `test_backend` says otherwise.
 * The tests of networks are built twice, once for each backend (CMakeLists.txt). */
const struct dml_backend *tested(void);
void test_backend(const struct dml_backend *backend);

/* Whether that is a card in plain C, on which all golden cases would take minutes: what differs in
 * nothing that a backend sees is then left to the CPU's test and to a real card's. */
bool tested_slowly(void);

#endif
