#ifndef TESTS_SUPPORT_SCRATCH_H
#define TESTS_SUPPORT_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

/* A temporary folder per test program, and files in it. Paths are printf style and relative to it;
 * the result stays valid for eight more calls. Folders on the way are made. */
void scratch_open(void);
void scratch_close(void); /* removes all of it */

/* The same for each test: cmocka_unit_test_setup_teardown. */
int scratch_setup(void **state);
int scratch_teardown(void **state);
const char *scratch_path(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *scratch_write(const char *relative, const void *data, size_t size);
const char *scratch_text(const char *relative, const char *text);

/* A copy of the first `size` bytes of a file (0: all). */
const char *scratch_copy(const char *relative, const char *from, size_t size);

/* A copy with `count` bytes in the middle replaced: by zeros, or by markers as random bytes have.
 */
const char *scratch_corrupt(const char *relative, const char *from, size_t count, bool markers);

/* A JPEG file (quality 90, 4:2:0) of a smooth pattern that depends on `seed`. */
const char *scratch_jpeg(const char *relative, int width, int height, unsigned seed);

#endif
