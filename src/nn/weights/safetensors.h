#ifndef DML_NN_WEIGHTS_SAFETENSORS_H
#define DML_NN_WEIGHTS_SAFETENSORS_H

#include "nn/weights/tensors.h"

/* The safetensors format: the header's length in 8 bytes, little-endian; the header, a JSON object
 * of name -> dtype, shape, data_offsets, and __metadata__ with strings; then the data, without
 * gaps. https://huggingface.co/docs/safetensors */

/* Whether the bytes begin like one. */
bool dml_safetensors_detect(const void *bytes, size_t size);

/* Tensors point into `bytes`. DML_ERROR_INPUT: a header beyond 8 MiB or malformed, a type this
 * program does not know, a size that does not follow from the shape, tensors that overlap, leave
 * a gap, or reach beyond the file. */
enum dml_status dml_safetensors_parse(const void *bytes, size_t size, const char *name,
                                      struct dml_tensors *out);

/* Writes the file whole or not at all; the data begins at a multiple of 8 bytes and tensors of
 * wide types come first, so that all are aligned. */
enum dml_status dml_safetensors_write(const char *path, const struct dml_tensors *tensors);

#endif
