#ifndef DML_TRACKING_PROTOBUF_H
#define DML_TRACKING_PROTOBUF_H

#include "dml/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes messages in Protocol Buffers' wire format, as far as W&B's and TensorBoard's records need
 * it: fields in the order of the calls. A failed allocation is remembered and checked once, at the
 * end. A message inside another is built in a buffer of its own and added as a field. */
struct dml_bytes {
    unsigned char *data;
    size_t size, capacity;
    bool failed;
};

void dml_bytes_free(struct dml_bytes *bytes);
void dml_bytes_add(struct dml_bytes *bytes, const void *data, size_t size);

void dml_pb_integer(struct dml_bytes *bytes, int field, uint64_t value); /* int32, int64, enum */
void dml_pb_float(struct dml_bytes *bytes, int field, float value);
void dml_pb_double(struct dml_bytes *bytes, int field, double value);
void dml_pb_bytes(struct dml_bytes *bytes, int field, const void *data, size_t size);
/* Text that is not UTF-8 is escaped (text.h): otherwise whole messages are refused. */
void dml_pb_string(struct dml_bytes *bytes, int field, const char *text);
void dml_pb_doubles(struct dml_bytes *bytes, int field, const double *values, size_t count);

/* Adds `message` as a field and empties it for its next use. */
void dml_pb_message(struct dml_bytes *bytes, int field, struct dml_bytes *message);

/* DML_ERROR_MEMORY when an addition failed. */
enum dml_status dml_bytes_status(const struct dml_bytes *bytes);

#endif
