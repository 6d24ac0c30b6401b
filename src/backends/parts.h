#ifndef DML_BACKENDS_PARTS_H
#define DML_BACKENDS_PARTS_H

#include "backends/backend.h"

/* What batch norm needs of a batch that several processes share. `parts` NULL: one process, or each
 * has its own statistics; nothing changes. */

static inline const struct dml_batch_parts *
dml_parts_norms(const struct dml_network_options *options) {
    return options->own_statistics ? NULL : options->parts;
}

/* values (count) become those of the first part. */
enum dml_status dml_parts_first(const struct dml_batch_parts *parts, size_t count, float *values);

/* values (count) become the sums over all parts, in their order. */
enum dml_status dml_parts_sums(const struct dml_batch_parts *parts, size_t count, double *values);

static inline size_t dml_parts_count(const struct dml_batch_parts *parts) {
    return parts ? (size_t)parts->count : 1;
}

#endif
