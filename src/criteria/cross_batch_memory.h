#ifndef DML_CRITERIA_CROSS_BATCH_MEMORY_H
#define DML_CRITERIA_CROSS_BATCH_MEMORY_H

#include "dml/criteria.h"

/* A ring buffer of a run's latest embeddings and their labels. Wang, Zhang, Huang, Scott 2020,
 * "Cross-batch memory for embedding learning". All zero: no memory. */
struct dml_cross_batch_memory {
    size_t size, dim;
    float *embeddings; /* (size, dim) */
    int32_t *labels;   /* (size); -1 in places not filled yet, which come last */
    int32_t at;        /* where the next embedding goes */
    int32_t *own;      /* (own_capacity): where the samples of the batch were stored */
    size_t own_capacity;
};

enum dml_status dml_cross_batch_memory_open(struct dml_cross_batch_memory *memory, size_t size,
                                            size_t dim);
void dml_cross_batch_memory_close(struct dml_cross_batch_memory *memory);

/* Stores a batch of at most `size` embeddings over the oldest ones, and returns what to compare it
 * with: everything stored, valid until the next call. */
enum dml_status dml_cross_batch_memory_store(struct dml_cross_batch_memory *memory,
                                             const struct dml_batch *batch,
                                             struct dml_reference *out);

/* As dml_criterion.buffers; labels are below `classes`. */
size_t dml_cross_batch_memory_buffers(struct dml_cross_batch_memory *memory, size_t classes,
                                      struct dml_criterion_buffer *out, size_t max);

#endif
