#include "data/image.h"

#include "base/memory.h"
#include "data/formats.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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
    int64_t max_pixels;
    struct dml_rect box; /* of the file: the image; width 0 until a header was read without one */
    size_t working;      /* bytes that decoding takes besides the pixels asked for */
    struct dml_pixels checked;
};

/* HEAD: enough for the header of nearly every file; a file with a longer one is read whole.
 * KEPT: buffers beyond it are given back before a smaller image, so that threads that met a large
 * one do not stay large. LARGE: files that take more than that besides their pixels, as progressive
 * ones do, are decoded one at a time. */
enum { HEAD = 16384, KEPT = 64 << 20, LARGE = 128 << 20, MOST_BYTES = 1 << 30 };

static pthread_mutex_t large_files = PTHREAD_MUTEX_INITIALIZER;

static bool is_wasteful(size_t capacity, size_t wanted) {
    return capacity > KEPT && wanted < capacity / 2;
}

enum dml_status dml_pixels_reserve(struct dml_pixels *pixels, struct dml_rect rect) {
    size_t stride = (size_t)rect.width * 3;
    size_t bytes = stride * (size_t)rect.height + DML_PIXELS_SLACK;
    if (bytes > pixels->capacity ||
        is_wasteful(pixels->capacity, bytes)) { /* not dml_grow: what is held need not be kept */
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

void dml_pixels_release(struct dml_pixels *pixels) {
    if (pixels->capacity > KEPT)
        dml_pixels_free(pixels);
}

void dml_pixels_free(struct dml_pixels *pixels) {
    free(pixels->data);
    memset(pixels, 0, sizeof *pixels);
}

enum dml_status dml_reader_new(struct dml_reader **out) {
    struct dml_reader *reader = *out = dml_alloc(1, sizeof *reader);
    if (!reader)
        return DML_ERROR_MEMORY;
    dml_reader_limit(reader, 0);
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

void dml_reader_limit(struct dml_reader *reader, int64_t max_pixels) {
    reader->max_pixels = max_pixels ? max_pixels : DML_IMAGE_PIXELS;
}

static enum dml_status open_file(struct dml_reader *reader, const char *path,
                                 const struct dml_rect *box) {
    size_t length = strlen(path) + 1;
    void *copy = reader->path;
    enum dml_status status = dml_grow(&copy, &reader->path_capacity, length, 1);
    reader->path = copy;
    if (status)
        return status;
    memcpy(reader->path, path, length);
    reader->held = 0;
    reader->box = box ? *box : (struct dml_rect){0, 0, 0, 0};
    reader->format = FORMAT_UNKNOWN;
    close_file(reader);
    struct stat info;
    reader->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* opening a pipe must not block */
    if (reader->fd < 0) {
        /* What the process lacks is not about the file: no other may take its place. */
        bool lacking = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
        return dml_fail(lacking ? DML_ERROR_UNSUPPORTED : DML_ERROR_IO, "%s: cannot be opened: %s",
                        path, strerror(errno));
    }
    if (fstat(reader->fd, &info) != 0)
        return dml_fail(DML_ERROR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return dml_fail(DML_ERROR_INPUT, "%s: is not a file", path);
    if (info.st_size == 0)
        return dml_fail(DML_ERROR_INPUT, "%s: is empty", path);
    if (info.st_size > MOST_BYTES)
        return dml_fail(DML_ERROR_INPUT, "%s: has %lld MB, more than an image may (%d)", path,
                        (long long)info.st_size >> 20, MOST_BYTES >> 20);
    reader->size = (size_t)info.st_size;
    if (is_wasteful(reader->capacity, reader->size)) {
        free(reader->bytes);
        reader->bytes = NULL;
        reader->capacity = 0;
    }
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

/* What else files called .jpg are: "a WebP image, " and the like; "" where it is not known. */
static const char *other_format(const uint8_t *bytes, size_t size) {
    static const struct {
        size_t at;
        const char *mark, *name;
    } others[] = {
        {0, "GIF8", "a GIF image, "},
        {8, "WEBP", "a WebP image, "},
        {0, "II*", "a TIFF image, "},
        {0, "MM", "a TIFF image, "},
        {4, "ftypavif", "an AVIF image, "},
        {4, "ftyphei", "a HEIC image, "},
        {4, "ftypmif1", "a HEIC image, "},
        {0, "BM", "a BMP image, "},
        {0, "<", "a web page or XML, "},
        {0, "version https://git-lfs", "a pointer of Git LFS, "},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        size_t length = strlen(others[i].mark);
        if (size >= others[i].at + length &&
            memcmp(bytes + others[i].at, others[i].mark, length) == 0)
            return others[i].name;
    }
    return "";
}

static enum dml_status named(struct dml_reader *reader, enum dml_status status,
                             const char *problem) {
    return status == DML_ERROR_INPUT ? dml_fail(status, "%s: %s", reader->path, problem) : status;
}

/* What a header promises must fit the bounds, the file and the box. */
static enum dml_status check_header(const struct dml_reader *reader,
                                    const struct format_header *header) {
    const struct dml_rect *box = &reader->box;
    if ((int64_t)header->width * header->height > reader->max_pixels)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: its header says %d x %d pixels, more than the %lld allowed "
                        "(--max_image_pixels)",
                        reader->path, header->width, header->height, (long long)reader->max_pixels);
    if (reader->size < header->least_bytes)
        return dml_fail(DML_ERROR_INPUT, "%s: is cut short: %zu bytes for %d x %d pixels",
                        reader->path, reader->size, header->width, header->height);
    if (box->width &&
        (box->left < 0 || box->top < 0 || box->width < 1 || box->height < 1 ||
         box->left > header->width - box->width || box->top > header->height - box->height))
        return dml_fail(DML_ERROR_INPUT,
                        "%s: the box from %d,%d to %d,%d does not lie in its %d x %d pixels",
                        reader->path, box->left, box->top, box->left + box->width,
                        box->top + box->height, header->width, header->height);
    return DML_OK;
}

/* *starved: on failure, whether more bytes of the file may help. */
static enum dml_status read_header(struct dml_reader *reader, bool *starved) {
    struct format_header header = {.starved = false};
    enum dml_status status;
    const char *problem = "";
    reader->format = format_of(reader->bytes, reader->held);
    if (reader->format == FORMAT_JPEG)
        status = jpeg_decoder_open(reader->jpeg, reader->bytes, reader->held, &header, &problem);
    else if (reader->format == FORMAT_PNG)
        status = png_decoder_open(reader->png, reader->bytes, reader->held, &header, &problem);
    else
        return dml_fail(DML_ERROR_INPUT, "%s: is %sneither a JPEG nor a PNG file", reader->path,
                        other_format(reader->bytes, reader->held));
    *starved = header.starved;
    if (status)
        return named(reader, status, problem);
    status = check_header(reader, &header);
    reader->working = header.working;
    if (!reader->box.width)
        reader->box = (struct dml_rect){0, 0, header.width, header.height};
    return status;
}

enum dml_status dml_reader_open_box(struct dml_reader *reader, const char *path,
                                    const struct dml_rect *box, int *width, int *height) {
    bool starved = false;
    enum dml_status status = open_file(reader, path, box);
    if (!status)
        status = read_bytes(reader, reader->size);
    close_file(reader);
    if (!status)
        status = read_header(reader, &starved);
    *width = reader->box.width;
    *height = reader->box.height;
    return status;
}

enum dml_status dml_reader_open(struct dml_reader *reader, const char *path, int *width,
                                int *height) {
    return dml_reader_open_box(reader, path, NULL, width, height);
}

enum dml_status dml_reader_decode(struct dml_reader *reader, struct dml_rect wanted,
                                  struct dml_pixels *out) {
    enum dml_status status;
    const char *problem = "";
    wanted.left += reader->box.left;
    wanted.top += reader->box.top;
    bool large = reader->working > LARGE;
    if (large)
        pthread_mutex_lock(&large_files);
    if (reader->format == FORMAT_JPEG)
        status = jpeg_decoder_decode(reader->jpeg, wanted, out, &problem);
    else
        status = png_decoder_decode(reader->png, wanted, out, &problem);
    if (large)
        pthread_mutex_unlock(&large_files);
    out->rect.left -= reader->box.left;
    out->rect.top -= reader->box.top;
    return named(reader, status, problem);
}

const char *dml_reader_flaw(const struct dml_reader *reader) {
    return reader->format == FORMAT_JPEG ? jpeg_decoder_flaw(reader->jpeg) : NULL;
}

/* Whether the file ends as a complete one does. */
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

enum dml_status dml_reader_check(struct dml_reader *reader, const char *path,
                                 const struct dml_rect *box) {
    bool starved = false;
    enum dml_status status = open_file(reader, path, box);
    if (!status)
        status = read_bytes(reader, reader->size < HEAD ? reader->size : HEAD);
    if (!status) {
        status = read_header(reader, &starved);
        if (status && starved && reader->held < reader->size) {
            status = read_bytes(reader, reader->size);
            if (!status)
                status = read_header(reader, &starved);
        }
    }
    if (!status && !ends_well(reader)) {
        status = read_bytes(reader, reader->size);
        if (!status)
            status = read_header(reader, &starved);
        const struct dml_rect all = {0, 0, reader->box.width, reader->box.height};
        if (!status)
            status = dml_reader_decode(reader, all, &reader->checked);
    }
    close_file(reader);
    return status;
}
