#ifndef TESTS_SUPPORT_GOLDEN_H
#define TESTS_SUPPORT_GOLDEN_H

#include "base/npy.h"

#include <cjson/cJSON.h>

/* cmocka wants these before its own header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Golden files of tests/golden, or of $DML_GOLDEN. Paths are relative to that folder, printf
 * style; a file that cannot be read fails the test. Results are freed with free(). */
const char *golden_path(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool golden_exists(const char *relative);
float *golden_floats(size_t *count, const char *format, ...) __attribute__((format(printf, 2, 3)));
double *golden_doubles(size_t *count, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int32_t *golden_ints(size_t *count, const char *format, ...) __attribute__((format(printf, 2, 3)));
cJSON *golden_json(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Names in a golden folder, sorted; freed by golden_free_names. Prints how many there are.
 * `relative` is a literal. */
char **golden_names(const char *relative, size_t *count);
/* The same, folders only: each is a case, and what else lies there is none. */
char **golden_cases(const char *relative, size_t *count);
/* The same as golden_names of any folder, without a word. */
char **golden_files(const char *relative, size_t *count);
void golden_free_names(char **names, size_t count);

/* The object `flags` of a case as on a command line, without `except` (NULL: with all): numbers and
 * texts stand after their flag, lists too; `true` is a switch. */
void golden_flags(const cJSON *flags, const char *except, char *out, size_t size);

/* ||a - b|| / max(||b||, floor). */
double relative_error(const float *a, const double *b, size_t n, double floor);

/* Asserts DML_OK and prints dml_error() otherwise. */
#define assert_ok(expression)                                                                      \
    do {                                                                                           \
        if ((expression) != DML_OK)                                                                \
            fail_msg("%s: %s", #expression, dml_error());                                          \
    } while (0)

#endif
