#include "train/embedding.h"

#include "base/memory.h"
#include "base/progress.h"

#include <stdlib.h>

size_t dml_embedding_batch(size_t training_batch) {
    enum { MOST = 128 };
    return training_batch < MOST ? training_batch : MOST;
}

void dml_announce_next(struct dml_network *network, struct dml_loader *loader) {
    const struct dml_loaded *next = dml_loader_peek(loader);
    const struct dml_images images = {.n = next ? next->n : 0,
                                      .height = next ? next->height : 0,
                                      .width = next ? next->width : 0,
                                      .pixels = next ? next->pixels : NULL};
    if (next)
        dml_network_announce(network, &images);
}

/* The images that a rank embeds begin at starts[rank]: whole batches, evenly divided. */
static void divide(size_t count, size_t batch, size_t ranks, size_t *starts) {
    size_t batches = (count + batch - 1) / batch;
    for (size_t r = 0; r <= ranks; r++) {
        size_t start = batches * r / ranks * batch;
        starts[r] = start < count ? start : count;
    }
}

/* Starts the pass over images first..end-1 of the part. */
static enum dml_status start(struct dml_loader *loader, size_t first, size_t end) {
    uint32_t *indices = dml_alloc(end - first, sizeof *indices);
    if (!indices)
        return DML_ERROR_MEMORY;
    for (size_t i = first; i < end; i++)
        indices[i - first] = (uint32_t)i;
    dml_loader_place(loader, first, dml_loader_batch_size(loader));
    enum dml_status status = dml_loader_start(loader, 0, indices, end - first);
    free(indices);
    return status;
}

enum dml_status dml_embed_images(struct dml_network *network, struct dml_loader *loader,
                                 size_t count, const char *title, const volatile sig_atomic_t *stop,
                                 struct dml_comm *comm, enum dml_embedded where,
                                 float *embeddings) {
    struct dml_progress progress;
    size_t starts[comm->size + 1], ranks = (size_t)comm->size;
    divide(count, dml_loader_batch_size(loader), ranks, starts);
    size_t done = starts[comm->rank], end = starts[comm->rank + 1];
    dml_progress_start(&progress, title, "images", count);
    enum dml_status status = start(loader, done, end);
    while (!status) {
        const struct dml_loaded *batch;
        status = dml_loader_next(loader, &batch);
        if (status || !batch)
            break;
        const struct dml_images images = {
            .n = batch->n, .height = batch->height, .width = batch->width, .pixels = batch->pixels};
        dml_announce_next(network, loader);
        status = dml_network_embed(network, &images, embeddings + done * dml_network_dim(network));
        done += batch->n;
        dml_loader_release(loader, batch);
        if (!status && stop && *stop)
            status = dml_fail(DML_ERROR_INTERRUPTED, "interrupted while embedding");
        dml_progress_update(&progress, (done - starts[comm->rank]) * ranks);
    }
    dml_network_announce(network, NULL);
    for (size_t r = 0; r <= ranks; r++)
        starts[r] *= dml_network_dim(network) * sizeof *embeddings;
    if (!status)
        status = dml_comm_collect(comm, embeddings, starts, where == DML_EMBEDDED_AT_ROOT);
    if (!status)
        dml_progress_update(&progress, count);
    progress.brief = status; /* the failure has its own message */
    dml_progress_end(&progress);
    return status;
}
