#ifndef DML_BACKENDS_PARTS_H
#define DML_BACKENDS_PARTS_H

#include "backends/backend.h"

/* Batch norm over a batch that several processes share, each with a part of the same size: Ioffe
 * and Szegedy 2015, Batch normalization, with the statistics of the whole batch. `parts` NULL: one
 * process, nothing changes. */

/* mean, variance (channels) of this part become those of the batch. */
enum dml_status dml_parts_statistics(const struct dml_batch_parts *parts, size_t channels,
                                     float *mean, float *variance);

/* values (count) become the sums over all parts, in their order. */
enum dml_status dml_parts_sums(const struct dml_batch_parts *parts, size_t count, double *values);

static inline size_t dml_parts_count(const struct dml_batch_parts *parts) {
    return parts ? (size_t)parts->count : 1;
}

#endif
