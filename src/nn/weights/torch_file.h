#ifndef DML_NN_WEIGHTS_TORCH_FILE_H
#define DML_NN_WEIGHTS_TORCH_FILE_H

#include "nn/weights/tensors.h"

/* What torch.save writes: a pickle that refers to storages, and the storages' bytes. Since 1.6 in
 * a zip archive (NAME/data.pkl, NAME/data/KEY); before, one after another in a plain file. */

bool dml_torch_is_zip(const void *bytes, size_t size);
bool dml_torch_is_legacy(const void *bytes, size_t size);

/* As dml_tensors_parse documents; tensors may point into `bytes`. */
enum dml_status dml_torch_parse_zip(const void *bytes, size_t size, const char *file,
                                    struct dml_tensors *out);
enum dml_status dml_torch_parse_legacy(const void *bytes, size_t size, const char *file,
                                       struct dml_tensors *out);

/* Writes a zip archive that torch.load(weights_only=True) opens: an OrderedDict of the tensors. The
 * metadata becomes its attribute `dml_metadata`, which load_state_dict passes over and the reader
 * here restores. Whole or not at all; DML_ERROR_UNSUPPORTED beyond 4 GB. */
enum dml_status dml_torch_write(const char *path, const struct dml_tensors *tensors);

/* The dict's attribute that holds the metadata. */
#define DML_TORCH_METADATA "dml_metadata"

/* "FloatStorage" and so on: the name of the type of a tensor's storage. */
const char *dml_torch_storage_name(enum dml_dtype dtype);

#endif
