#include "tracking/append.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum dml_status dml_append(int fd, const char *path, off_t *length, const void *data, size_t size) {
    size_t done = 0;
    while (done < size) {
        ssize_t written = write(fd, (const char *)data + done, size - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            int reason = written < 0 ? errno : ENOSPC;
            int undone = ftruncate(fd, *length);
            (void)undone; /* a device has no length */
            return dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", path, strerror(reason));
        }
        done += (size_t)written;
    }
    *length += (off_t)size;
    return DML_OK;
}
