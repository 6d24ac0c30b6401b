#include "tracking/protobuf.h"

#include "base/memory.h"
#include "base/text.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* https://protobuf.dev/programming-guides/encoding/ */
enum wire_type { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };

void dml_bytes_free(struct dml_bytes *bytes) {
    free(bytes->data);
    memset(bytes, 0, sizeof *bytes);
}

void dml_bytes_add(struct dml_bytes *bytes, const void *data, size_t size) {
    if (bytes->failed || size == 0)
        return;
    if (dml_grow(&bytes->data, &bytes->capacity, bytes->size + size, 1) != DML_OK) {
        bytes->failed = true;
        return;
    }
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

enum dml_status dml_bytes_status(const struct dml_bytes *bytes) {
    return bytes->failed ? dml_fail(DML_ERROR_MEMORY, "out of memory: a record to be logged")
                         : DML_OK;
}

static void varint(struct dml_bytes *bytes, uint64_t value) {
    unsigned char digits[10];
    size_t count = 0;
    do {
        digits[count] = (unsigned char)((value & 127) | (value > 127 ? 128 : 0));
        value >>= 7;
        count++;
    } while (value);
    dml_bytes_add(bytes, digits, count);
}

static void tag(struct dml_bytes *bytes, int field, enum wire_type type) {
    varint(bytes, (uint64_t)field << 3 | type);
}

void dml_pb_integer(struct dml_bytes *bytes, int field, uint64_t value) {
    tag(bytes, field, VARINT);
    varint(bytes, value);
}

void dml_pb_float(struct dml_bytes *bytes, int field, float value) {
    tag(bytes, field, FIXED32);
    dml_bytes_add(bytes, &value, sizeof value);
}

void dml_pb_double(struct dml_bytes *bytes, int field, double value) {
    tag(bytes, field, FIXED64);
    dml_bytes_add(bytes, &value, sizeof value);
}

void dml_pb_bytes(struct dml_bytes *bytes, int field, const void *data, size_t size) {
    tag(bytes, field, LENGTH);
    varint(bytes, size);
    dml_bytes_add(bytes, data, size);
}

void dml_pb_string(struct dml_bytes *bytes, int field, const char *text) {
    size_t length = strlen(text);
    char *escaped = dml_utf8_valid(text, length) ? NULL : dml_text_escape(text);
    if (escaped)
        dml_pb_bytes(bytes, field, escaped, strlen(escaped));
    else if (dml_utf8_valid(text, length))
        dml_pb_bytes(bytes, field, text, length);
    else
        bytes->failed = true; /* no memory */
    free(escaped);
}

void dml_pb_doubles(struct dml_bytes *bytes, int field, const double *values, size_t count) {
    dml_pb_bytes(bytes, field, values, count * sizeof *values);
}

void dml_pb_message(struct dml_bytes *bytes, int field, struct dml_bytes *message) {
    dml_pb_bytes(bytes, field, message->data, message->size);
    bytes->failed = bytes->failed || message->failed;
    message->size = 0;
}
