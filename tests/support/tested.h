#ifndef TESTS_SUPPORT_TESTED_H
#define TESTS_SUPPORT_TESTED_H

#include "backends/network.h"

/* The backend that a test's networks are made on: the CPU's, until `test_backend` says otherwise.
 * The tests of networks are built twice, once for each backend (CMakeLists.txt). */
const struct dml_backend *tested(void);
void test_backend(const struct dml_backend *backend);

/* Who holds class weights and proxies in tests of criteria; NULL, until `test_banks` says
 * otherwise: the processor. */
struct dml_class_banks;
const struct dml_class_banks *tested_banks(void);
void test_banks(const struct dml_class_banks *banks);

/* Whether that is a card in plain C, on which all golden cases would take minutes: what differs in
 * nothing that a backend sees is then left to the CPU's test and to a real card's. */
bool tested_slowly(void);

#endif
