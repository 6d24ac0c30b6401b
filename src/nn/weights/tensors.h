#ifndef DML_NN_WEIGHTS_TENSORS_H
#define DML_NN_WEIGHTS_TENSORS_H

#include "base/files.h"

#include <stdint.h>

/* What a weight file holds, whatever its format: named tensors, and strings about them. */

enum dml_dtype {
    DML_DTYPE_F64,
    DML_DTYPE_F32,
    DML_DTYPE_F16,
    DML_DTYPE_BF16,
    DML_DTYPE_I64,
    DML_DTYPE_I32,
    DML_DTYPE_I16,
    DML_DTYPE_I8,
    DML_DTYPE_U8,
    DML_DTYPE_BOOL,
    DML_DTYPE_COUNT
};

size_t dml_dtype_size(enum dml_dtype dtype);      /* bytes of an element */
const char *dml_dtype_name(enum dml_dtype dtype); /* as safetensors spells it: "F32" */

enum { DML_TENSOR_MAX_DIMS = 8 };

struct dml_tensor {
    char *name;
    enum dml_dtype dtype; /* as stored */
    size_t dims[DML_TENSOR_MAX_DIMS];
    int dim_count;    /* 0: a scalar, of one element */
    size_t count;     /* elements */
    const void *data; /* C order, little-endian; not aligned where it lies in a mapped file */
    void *owned;      /* what to free, or NULL: the data lies in the mapping or is borrowed */
};

struct dml_tensor_note {
    char *key, *value;
};

/* All zero is an empty list. Order is the file's. */
struct dml_tensors {
    struct dml_tensor *items;
    size_t count, capacity;
    struct dml_tensor_note *notes; /* the metadata: keys differ */
    size_t note_count, note_capacity;
    char *remark; /* where in a checkpoint they were and what was passed over, or NULL */
    struct dml_mapping mapping; /* the file that data may lie in */
};

/* Reads a file: safetensors, or what torch.save writes (zip or its older format), told apart by
 * content. A state dict is found wherever training code puts it (state_dict.h), the prefixes that
 * wrappers put before all names ("module.", "model.backbone.") and those that torch.compile puts
 * into them ("_orig_mod.") are removed, parameters become tensors, strided views are made
 * contiguous. DML_ERROR_INPUT: one line that names the file and, where there is one, the tensor.
 * Nothing in a file is ever executed. Free with dml_tensors_free. */
enum dml_status dml_tensors_read(const char *path, struct dml_tensors *out);

/* The same from bytes in memory, which must outlive `out`; `name` is for messages. */
enum dml_status dml_tensors_parse(const void *bytes, size_t size, const char *name,
                                  struct dml_tensors *out);

/* Writes the list in the format of the path's ending, whole or not at all: .safetensors, or .pth
 * and .pt for torch.load(weights_only=True). DML_ERROR_USAGE: another ending. */
enum dml_status dml_tensors_write(const char *path, const struct dml_tensors *tensors);

void dml_tensors_free(struct dml_tensors *tensors); /* and makes it empty */

/* NULL when there is none. */
const struct dml_tensor *dml_tensors_find(const struct dml_tensors *tensors, const char *name);
const char *dml_tensors_note(const struct dml_tensors *tensors, const char *key);

/* Appends a tensor with zeroed memory of its own, to be filled through `*data`. */
enum dml_status dml_tensors_add(struct dml_tensors *tensors, const char *name, enum dml_dtype dtype,
                                const size_t *dims, int dim_count, void **data);

/* Appends a tensor whose data the caller keeps alive until the list is freed. */
enum dml_status dml_tensors_add_view(struct dml_tensors *tensors, const char *name,
                                     enum dml_dtype dtype, const size_t *dims, int dim_count,
                                     const void *data);

/* Adds or replaces a string of the metadata. Other programs refuse a file whose strings are not
 * UTF-8, so a byte of the value that is not becomes '?'. */
enum dml_status dml_tensors_set_note(struct dml_tensors *tensors, const char *key,
                                     const char *value);

/* Adds a checksum of all that the list holds to its metadata, in the place of an earlier one. */
enum dml_status dml_tensors_seal(struct dml_tensors *tensors);

/* Whether the list is what was sealed; true where there is no checksum. */
bool dml_tensors_intact(const struct dml_tensors *tensors);

/* Whether `length` bytes can be a tensor's name: UTF-8 without control characters, at most 1000
 * bytes. */
bool dml_tensor_name_valid(const char *name, size_t length);

/* All elements as float32 into out (count); doubles and integers are rounded. */
void dml_tensor_floats(const struct dml_tensor *tensor, float *out);

/* Removes the names of wrappers: before all names, or put into them by torch.compile. */
void dml_tensors_unwrap(struct dml_tensors *tensors);

/* How many bytes at the start of a name are the name of a wrapper and a dot ("module.", "model.",
 * "backbone." ...), 0 for none. */
size_t dml_tensor_wrapper(const char *name);

/* "(64, 3, 7, 7)" into a buffer that fits any shape. */
enum { DML_SHAPE_TEXT = 24 * DML_TENSOR_MAX_DIMS };
const char *dml_shape_text(const size_t *dims, int dim_count, char text[DML_SHAPE_TEXT]);

/* DML_ERROR_INPUT when two tensors have the same name; `file` is for the message. */
enum dml_status dml_tensors_check_names(const struct dml_tensors *tensors, const char *file);

#endif
