#include "base/memory.h"
#include "nn/weights/torch_file.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* A zip archive as PyTorch's own writer lays it out: nothing compressed, and every entry's bytes at
 * a multiple of 64 by a padding field ("FB") in its local header, so that torch can map it. libzip
 * cannot place bytes, and these three records are all a stored archive needs (PKWARE APPNOTE.TXT,
 * 4.3). */
enum {
    ALIGNMENT = 64,
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    EXTRA_HEADER = 4,
    UTF8_NAME = 0x0800,
    EPOCH_DATE = 0x0021, /* 1 January 1980 */
};

struct buffer {
    unsigned char *bytes;
    size_t size, capacity;
    enum dml_status status; /* of the first failure; nothing is added after it */
};

static void put(struct buffer *b, const void *bytes, size_t size) {
    if (b->status || (b->status = dml_grow(&b->bytes, &b->capacity, b->size + size, 1)))
        return;
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static void put_text(struct buffer *b, const char *text) {
    put(b, text, strlen(text));
}

static void put_number(struct buffer *b, uint64_t number, size_t width) {
    for (size_t i = 0; i < width; i++)
        put(b, &(unsigned char){(unsigned char)(number >> 8 * i)}, 1);
}

/* BINUNICODE */
static void pickle_text(struct buffer *b, const char *text) {
    put_text(b, "X");
    put_number(b, strlen(text), 4);
    put_text(b, text);
}

static void pickle_number(struct buffer *b, uint64_t number) {
    if (number < 256) {
        put_text(b, "K"); /* BININT1 */
        put_number(b, number, 1);
    } else if (number <= INT32_MAX) {
        put_text(b, "J"); /* BININT */
        put_number(b, number, 4);
    } else {
        put(b, "\x8a\x08", 2); /* LONG1 of 8 bytes */
        put_number(b, number, 8);
    }
}

static void pickle_sizes(struct buffer *b, const size_t *sizes, int count) {
    put_text(b, "(");
    for (int i = 0; i < count; i++)
        pickle_number(b, sizes[i]);
    put_text(b, "t");
}

static const char new_ordered_dict[] = "ccollections\nOrderedDict\n)R";

/* torch._utils._rebuild_tensor_v2(("storage", type, key, "cpu", count), 0, size, stride, False,
 * OrderedDict()) */
static void pickle_tensor(struct buffer *b, const struct dml_tensor *tensor, size_t key) {
    char key_text[24];
    size_t strides[DML_TENSOR_MAX_DIMS], stride = 1;
    for (int d = tensor->dim_count; d-- > 0;) {
        strides[d] = stride;
        stride *= tensor->dims[d] ? tensor->dims[d] : 1;
    }
    snprintf(key_text, sizeof key_text, "%zu", key);
    put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(b, "storage");
    put_text(b, "ctorch\n");
    put_text(b, dml_torch_storage_name(tensor->dtype));
    put_text(b, "\n");
    pickle_text(b, key_text);
    pickle_text(b, "cpu");
    pickle_number(b, tensor->count);
    put_text(b, "tQ");
    pickle_number(b, 0);
    pickle_sizes(b, tensor->dims, tensor->dim_count);
    pickle_sizes(b, strides, tensor->dim_count);
    put(b, "\x89", 1); /* requires_grad */
    put_text(b, new_ordered_dict);
    put_text(b, "tR");
}

static void pickle_state_dict(struct buffer *b, const struct dml_tensors *tensors) {
    put(b, "\x80\x02", 2);
    put_text(b, new_ordered_dict);
    put_text(b, "(");
    for (size_t i = 0; i < tensors->count; i++) {
        pickle_text(b, tensors->items[i].name);
        pickle_tensor(b, &tensors->items[i], i);
    }
    put_text(b, "u");
    if (tensors->note_count) {
        put_text(b, "}");
        pickle_text(b, DML_TORCH_METADATA);
        put_text(b, "}(");
        for (size_t i = 0; i < tensors->note_count; i++) {
            pickle_text(b, tensors->notes[i].key);
            pickle_text(b, tensors->notes[i].value);
        }
        put_text(b, "usb");
    }
    put_text(b, ".");
}

struct archive {
    FILE *file;
    uint64_t at;
    struct buffer directory;
    size_t entries;
};

static void put_common(struct buffer *b, uint32_t crc, uint64_t size, size_t name_length,
                       size_t extra_length) {
    put_number(b, 10, 2); /* version 1.0 can read it */
    put_number(b, UTF8_NAME, 2);
    put_number(b, 0, 2); /* stored */
    put_number(b, 0, 2); /* time */
    put_number(b, EPOCH_DATE, 2);
    put_number(b, crc, 4);
    put_number(b, size, 4);
    put_number(b, size, 4);
    put_number(b, name_length, 2);
    put_number(b, extra_length, 2);
}

static enum dml_status add_entry(struct archive *a, const char *name, const void *data,
                                 uint64_t size) {
    struct buffer local = {0}, *directory = &a->directory;
    size_t name_length = strlen(name);
    size_t unpadded = LOCAL_SIZE + name_length + EXTRA_HEADER;
    size_t padding = (ALIGNMENT - (a->at + unpadded) % ALIGNMENT) % ALIGNMENT;
    uint32_t crc = (uint32_t)crc32_z(0, data, size);
    put_text(&local, "PK\3\4");
    put_common(&local, crc, size, name_length, EXTRA_HEADER + padding);
    put_text(&local, name);
    put_text(&local, "FB");
    put_number(&local, padding, 2);
    for (size_t i = 0; i < padding; i++)
        put_text(&local, "Z");

    put_text(directory, "PK\1\2");
    put_number(directory, 10, 2);
    put_common(directory, crc, size, name_length, 0);
    for (int i = 0; i < 5; i++) /* comment, disk, attributes */
        put_number(directory, 0, 2);
    put_number(directory, a->at, 4);
    put_text(directory, name);
    a->entries++;

    enum dml_status status = local.status ? local.status : directory->status;
    if (!status) {
        fwrite(local.bytes, 1, local.size, a->file);
        if (size)
            fwrite(data, 1, size, a->file);
        a->at += local.size + size;
    }
    free(local.bytes);
    return status;
}

static enum dml_status finish(struct archive *a) {
    struct buffer end = {0};
    put(&end, a->directory.bytes, a->directory.size);
    put_text(&end, "PK\5\6");
    put_number(&end, 0, 4);
    put_number(&end, a->entries, 2);
    put_number(&end, a->entries, 2);
    put_number(&end, a->directory.size, 4);
    put_number(&end, a->at, 4);
    put_number(&end, 0, 2);
    if (!end.status)
        fwrite(end.bytes, 1, end.size, a->file);
    free(end.bytes);
    return end.status;
}

/* Offsets have 32 bits and entries are counted in 16. */
static enum dml_status check_limits(const char *path, const struct dml_tensors *tensors) {
    uint64_t total = 0;
    for (size_t i = 0; i < tensors->count; i++)
        total += tensors->items[i].count * dml_dtype_size(tensors->items[i].dtype) + 1024;
    if (total > UINT32_MAX - (1u << 24) || tensors->count > 60000)
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "%s: %zu tensors of %llu bytes are too much for the "
                        "zip archive of a .pth file",
                        path, tensors->count, (unsigned long long)total);
    return dml_tensors_check_names(tensors, path);
}

enum dml_status dml_torch_write(const char *path, const struct dml_tensors *tensors) {
    struct dml_output output = {0};
    struct buffer pickle = {0};
    struct archive archive = {0};
    char name[64];
    enum dml_status status = check_limits(path, tensors);
    if (!status)
        status = dml_output_open(&output, path);
    if (status)
        return status;
    archive.file = output.file;
    pickle_state_dict(&pickle, tensors);
    status = pickle.status;
    if (!status)
        status = add_entry(&archive, "archive/data.pkl", pickle.bytes, pickle.size);
    if (!status)
        status = add_entry(&archive, "archive/byteorder", "little", 6);
    for (size_t i = 0; i < tensors->count && !status; i++) {
        const struct dml_tensor *tensor = &tensors->items[i];
        snprintf(name, sizeof name, "archive/data/%zu", i);
        status =
            add_entry(&archive, name, tensor->data, tensor->count * dml_dtype_size(tensor->dtype));
    }
    if (!status)
        status = add_entry(&archive, "archive/version", "3\n", 2);
    if (!status)
        status = finish(&archive);
    if (!status)
        status = dml_output_commit(&output);
    dml_output_discard(&output);
    free(pickle.bytes);
    free(archive.directory.bytes);
    return status;
}
