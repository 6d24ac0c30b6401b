#include "data/image.h"

#include "base/memory.h"
#include "data/formats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum format { FORMAT_UNKNOWN, FORMAT_JPEG, FORMAT_PNG };

struct dml_reader {
    struct jpeg_decoder *jpeg;
    struct png_decoder *png;
    enum format format;
    char *path; /* of the file opened last */
    size_t path_capacity;
    uint8_t *bytes;
    size_t capacity, held; /* bytes of the file that were read */
    size_t size;           /* of the file */
    int fd;
    struct dml_pixels checked;
};

/* Enough for the header of nearly every file; what has more is read whole. */
enum { HEAD = 16384 };

enum dml_status dml_pixels_reserve(struct dml_pixels *pixels, struct dml_rect rect) {
    size_t stride = (size_t)rect.width * 3;
    size_t bytes = stride * (size_t)rect.height + DML_PIXELS_SLACK;
    if (bytes > pixels->capacity) { /* not dml_grow: what is held need not be kept */
        free(pixels->data);
        pixels->data = dml_alloc_aligned(bytes, 1);
        pixels->capacity = pixels->data ? bytes : 0;
        if (!pixels->data)
            return DML_ERROR_MEMORY;
    }
    memset(pixels->data + bytes - DML_PIXELS_SLACK, 0, DML_PIXELS_SLACK);
    pixels->rect = rect;
    pixels->stride = stride;
    return DML_OK;
}

void dml_pixels_free(struct dml_pixels *pixels) {
    free(pixels->data);
    memset(pixels, 0, sizeof *pixels);
}

enum dml_status dml_reader_new(struct dml_reader **out) {
    struct dml_reader *reader = *out = dml_alloc(1, sizeof *reader);
    if (!reader)
        return DML_ERROR_MEMORY;
    reader->fd = -1;
    reader->jpeg = jpeg_decoder_new();
    reader->png = png_decoder_new();
    if (reader->jpeg && reader->png)
        return DML_OK;
    dml_reader_free(reader);
    *out = NULL;
    return dml_fail(DML_ERROR_MEMORY, "out of memory: cannot start an image decoder");
}

static void close_file(struct dml_reader *reader) {
    if (reader->fd >= 0)
        close(reader->fd);
    reader->fd = -1;
}

void dml_reader_free(struct dml_reader *reader) {
    if (!reader)
        return;
    close_file(reader);
    jpeg_decoder_free(reader->jpeg);
    png_decoder_free(reader->png);
    dml_pixels_free(&reader->checked);
    free(reader->bytes);
    free(reader->path);
    free(reader);
}

static enum dml_status open_file(struct dml_reader *reader, const char *path) {
    size_t length = strlen(path) + 1;
    void *copy = reader->path;
    enum dml_status status = dml_grow(&copy, &reader->path_capacity, length, 1);
    reader->path = copy;
    if (status)
        return status;
    memcpy(reader->path, path, length);
    reader->held = 0;
    reader->format = FORMAT_UNKNOWN;
    close_file(reader);
    struct stat info;
    reader->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0)
        return dml_fail(DML_ERROR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(reader->fd, &info) != 0)
        return dml_fail(DML_ERROR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return dml_fail(DML_ERROR_INPUT, "%s: is not a file", path);
    if (info.st_size == 0)
        return dml_fail(DML_ERROR_INPUT, "%s: is empty", path);
    reader->size = (size_t)info.st_size;
    return DML_OK;
}

/* Reads on until the first `count` bytes of the file are held. */
static enum dml_status read_bytes(struct dml_reader *reader, size_t count) {
    void *bytes = reader->bytes;
    enum dml_status status = dml_grow(&bytes, &reader->capacity, count, 1);
    reader->bytes = bytes;
    if (status)
        return status;
    while (reader->held < count) {
        ssize_t got = pread(reader->fd, reader->bytes + reader->held, count - reader->held,
                            (off_t)reader->held);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return dml_fail(DML_ERROR_IO, "%s: cannot be read: %s", reader->path, strerror(errno));
        if (got == 0)
            return dml_fail(DML_ERROR_INPUT, "%s: became shorter while it was read", reader->path);
        reader->held += (size_t)got;
    }
    return DML_OK;
}

static enum format format_of(const uint8_t *bytes, size_t size) {
    static const uint8_t jpeg[] = {0xFF, 0xD8, 0xFF};
    static const uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    if (size >= sizeof jpeg && memcmp(bytes, jpeg, sizeof jpeg) == 0)
        return FORMAT_JPEG;
    if (size >= sizeof png && memcmp(bytes, png, sizeof png) == 0)
        return FORMAT_PNG;
    return FORMAT_UNKNOWN;
}

static enum dml_status named(struct dml_reader *reader, enum dml_status status,
                             const char *problem) {
    return status == DML_ERROR_INPUT ? dml_fail(status, "%s: %s", reader->path, problem) : status;
}

static enum dml_status read_header(struct dml_reader *reader, int *width, int *height,
                                   bool *starved) {
    enum dml_status status;
    const char *problem = "";
    *starved = false;
    reader->format = format_of(reader->bytes, reader->held);
    if (reader->format == FORMAT_JPEG)
        status = jpeg_decoder_open(reader->jpeg, reader->bytes, reader->held, width, height,
                                   starved, &problem);
    else if (reader->format == FORMAT_PNG)
        status = png_decoder_open(reader->png, reader->bytes, reader->held, width, height, starved,
                                  &problem);
    else
        return dml_fail(DML_ERROR_INPUT, "%s: is neither a JPEG nor a PNG file", reader->path);
    if (status)
        return named(reader, status, problem);
    if ((int64_t)*width * *height > DML_IMAGE_MAX_PIXELS)
        return dml_fail(DML_ERROR_INPUT, "%s: its header says %d x %d pixels, more than 2^28",
                        reader->path, *width, *height);
    return DML_OK;
}

enum dml_status dml_reader_open(struct dml_reader *reader, const char *path, int *width,
                                int *height) {
    bool starved;
    enum dml_status status = open_file(reader, path);
    if (!status)
        status = read_bytes(reader, reader->size);
    close_file(reader);
    if (!status)
        status = read_header(reader, width, height, &starved);
    return status;
}

enum dml_status dml_reader_decode(struct dml_reader *reader, struct dml_rect wanted,
                                  struct dml_pixels *out) {
    enum dml_status status;
    const char *problem = "";
    if (reader->format == FORMAT_JPEG)
        status = jpeg_decoder_decode(reader->jpeg, wanted, out, &problem);
    else
        status = png_decoder_decode(reader->png, wanted, out, &problem);
    return named(reader, status, problem);
}

const char *dml_reader_flaw(const struct dml_reader *reader) {
    return reader->format == FORMAT_JPEG ? jpeg_decoder_flaw(reader->jpeg) : NULL;
}

/* Whether the file ends as a whole one does. */
static bool ends_well(struct dml_reader *reader) {
    static const uint8_t jpeg[] = {0xFF, 0xD9};
    static const uint8_t png[] = {'I', 'E', 'N', 'D', 0xAE, 0x42, 0x60, 0x82};
    uint8_t tail[8];
    const uint8_t *end = reader->format == FORMAT_JPEG ? jpeg : png;
    size_t length = reader->format == FORMAT_JPEG ? sizeof jpeg : sizeof png;
    return reader->size >= length &&
           pread(reader->fd, tail, length, (off_t)(reader->size - length)) == (ssize_t)length &&
           memcmp(tail, end, length) == 0;
}

enum dml_status dml_reader_check(struct dml_reader *reader, const char *path) {
    int width, height;
    bool starved = false;
    enum dml_status status = open_file(reader, path);
    if (!status)
        status = read_bytes(reader, reader->size < HEAD ? reader->size : HEAD);
    if (!status) {
        status = read_header(reader, &width, &height, &starved);
        if (status && starved && reader->held < reader->size) {
            status = read_bytes(reader, reader->size);
            if (!status)
                status = read_header(reader, &width, &height, &starved);
        }
    }
    if (!status && !ends_well(reader)) {
        status = read_bytes(reader, reader->size);
        if (!status)
            status = read_header(reader, &width, &height, &starved);
        if (!status)
            status =
                dml_reader_decode(reader, (struct dml_rect){0, 0, width, height}, &reader->checked);
    }
    close_file(reader);
    return status;
}
