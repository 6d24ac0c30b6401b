#include "tracking/wandb_log.h"

#include "base/memory.h"
#include "tracking/append.h"
#include "tracking/protobuf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { PIECE_HEADER = 7 };
enum piece_kind { FULL = 1, FIRST = 2, MIDDLE = 3, LAST = 4 };

enum dml_status dml_wandb_log_open(struct dml_wandb_log *log, const char *path) {
    /* ":W&B", 0xBEE1 as 16 bits, version 0. */
    static const unsigned char header[] = {':', 'W', '&', 'B', 0xE1, 0xBE, 0};
    log->size = 0;
    log->path = dml_strdup(path);
    if (!log->path)
        return DML_ERROR_MEMORY;
    log->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    enum dml_status status = DML_OK;
    if (log->fd < 0)
        status = dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", path, strerror(errno));
    else
        status = dml_append(log->fd, path, &log->size, header, sizeof header);
    if (status)
        dml_wandb_log_close(log);
    return status;
}

enum dml_status dml_wandb_log_take_up(struct dml_wandb_log *log, const char *path, off_t size) {
    struct stat info;
    *log = (struct dml_wandb_log){.fd = -1, .path = dml_strdup(path), .size = size};
    enum dml_status status = log->path ? DML_OK : DML_ERROR_MEMORY;
    if (!status && (log->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW)) < 0)
        status = dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", path, strerror(errno));
    if (!status && (fstat(log->fd, &info) != 0 || info.st_size < size))
        status = dml_fail(DML_ERROR_INPUT, "%s: is shorter than the run left it", path);
    if (!status && ftruncate(log->fd, size) != 0)
        status = dml_fail(DML_ERROR_IO, "%s: cannot be shortened: %s", path, strerror(errno));
    if (status)
        dml_wandb_log_close(log);
    return status;
}

enum dml_status dml_wandb_log_sync(struct dml_wandb_log *log) {
    if (fdatasync(log->fd) == 0 || errno == EINVAL) /* a device has no disk */
        return DML_OK;
    return dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", log->path, strerror(errno));
}

static void add_piece(struct dml_bytes *out, enum piece_kind kind, const unsigned char *data,
                      size_t size) {
    unsigned char kind_byte = (unsigned char)kind;
    uint32_t crc = (uint32_t)crc32_z(crc32_z(0, &kind_byte, 1), data, size);
    uint16_t length = (uint16_t)size;
    dml_bytes_add(out, &crc, 4);
    dml_bytes_add(out, &length, 2);
    dml_bytes_add(out, &kind_byte, 1);
    dml_bytes_add(out, data, size);
}

enum dml_status dml_wandb_log_add(struct dml_wandb_log *log, const void *record, size_t size) {
    static const unsigned char padding[PIECE_HEADER];
    const unsigned char *data = record;
    struct dml_bytes out = {0};
    size_t left = DML_WANDB_BLOCK - (size_t)log->size % DML_WANDB_BLOCK;
    if (left < PIECE_HEADER) {
        dml_bytes_add(&out, padding, left);
        left = DML_WANDB_BLOCK;
    }
    for (bool first = true; first || size > 0; first = false) {
        size_t piece = size <= left - PIECE_HEADER ? size : left - PIECE_HEADER;
        bool last = piece == size;
        add_piece(&out, first ? last ? FULL : FIRST : last ? LAST : MIDDLE, data, piece);
        data += piece;
        size -= piece;
        left = DML_WANDB_BLOCK;
    }
    enum dml_status status = dml_bytes_status(&out);
    if (!status)
        status = dml_append(log->fd, log->path, &log->size, out.data, out.size);
    dml_bytes_free(&out);
    return status;
}

void dml_wandb_log_close(struct dml_wandb_log *log) {
    if (log->fd >= 0)
        close(log->fd);
    free(log->path);
    log->fd = -1;
    log->path = NULL;
}
