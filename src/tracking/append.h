#ifndef DML_TRACKING_APPEND_H
#define DML_TRACKING_APPEND_H

#include "dml/error.h"

#include <stddef.h>
#include <sys/types.h>

/* Appends `size` bytes to a log whose good length is `*length`, and advances it. When not all of
 * them can be written, the file is cut back to its good length. */
enum dml_status dml_append(int fd, const char *path, off_t *length, const void *data, size_t size);

#endif
