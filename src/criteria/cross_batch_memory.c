#include "criteria/cross_batch_memory.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum dml_status dml_cross_batch_memory_open(struct dml_cross_batch_memory *memory, size_t size,
                                            size_t dim) {
    *memory = (struct dml_cross_batch_memory){.size = size, .dim = dim};
    memory->embeddings = dml_alloc(size, dim * sizeof *memory->embeddings);
    memory->labels = dml_alloc(size, sizeof *memory->labels);
    if (!memory->embeddings || !memory->labels) {
        dml_cross_batch_memory_close(memory);
        return DML_ERROR_MEMORY;
    }
    memset(memory->labels, 0xff, size * sizeof *memory->labels);
    return DML_OK;
}

void dml_cross_batch_memory_close(struct dml_cross_batch_memory *memory) {
    free(memory->embeddings);
    free(memory->labels);
    free(memory->own);
    *memory = (struct dml_cross_batch_memory){0};
}

static size_t stored(const struct dml_cross_batch_memory *memory) {
    return memory->labels[memory->size - 1] >= 0 ? memory->size : (size_t)memory->at;
}

enum dml_status dml_cross_batch_memory_store(struct dml_cross_batch_memory *memory,
                                             const struct dml_batch *batch,
                                             struct dml_reference *out) {
    if (batch->n > memory->size)
        return dml_fail(DML_ERROR_INPUT, "a batch of %zu does not fit into a memory of %zu",
                        batch->n, memory->size);
    if (batch->n > memory->own_capacity) {
        free(memory->own);
        memory->own_capacity = 0;
        memory->own = dml_alloc(batch->n, sizeof *memory->own);
        if (!memory->own)
            return DML_ERROR_MEMORY;
        memory->own_capacity = batch->n;
    }
    for (size_t i = 0; i < batch->n; i++) {
        size_t at = (size_t)memory->at;
        memcpy(memory->embeddings + at * memory->dim, batch->embeddings + i * memory->dim,
               memory->dim * sizeof *memory->embeddings);
        memory->labels[at] = batch->labels[i];
        memory->own[i] = memory->at;
        memory->at = at + 1 < memory->size ? memory->at + 1 : 0;
    }
    *out = (struct dml_reference){.n = stored(memory),
                                  .embeddings = memory->embeddings,
                                  .labels = memory->labels,
                                  .own = memory->own};
    return DML_OK;
}

size_t dml_cross_batch_memory_buffers(struct dml_cross_batch_memory *memory, size_t classes,
                                      struct dml_criterion_buffer *out, size_t max) {
    const struct dml_criterion_buffer all[] = {{.name = "memory",
                                                .floats = memory->embeddings,
                                                .dims = {memory->size, memory->dim},
                                                .transient = true},
                                               {.name = "memory_labels",
                                                .ints = memory->labels,
                                                .dims = {memory->size, 1},
                                                .least = -1,
                                                .most = (int32_t)classes - 1,
                                                .transient = true},
                                               {.name = "memory_at",
                                                .ints = &memory->at,
                                                .dims = {1, 1},
                                                .most = (int32_t)memory->size - 1,
                                                .transient = true}};
    const size_t count = sizeof all / sizeof *all < max ? sizeof all / sizeof *all : max;
    memcpy(out, all, count * sizeof *out);
    return memory->size ? count : 0;
}
