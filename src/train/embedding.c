#include "train/embedding.h"

#include "base/progress.h"

size_t dml_embedding_batch(size_t training_batch) {
    enum { MOST = 128 };
    return training_batch < MOST ? training_batch : MOST;
}

enum dml_status dml_embed_images(struct dml_network *network, struct dml_loader *loader,
                                 size_t count, const char *title, const volatile sig_atomic_t *stop,
                                 float *embeddings) {
    struct dml_progress progress;
    dml_progress_start(&progress, title, "images", count);
    enum dml_status status = dml_loader_start(loader, 0, NULL, count);
    size_t done = 0;
    while (!status) {
        const struct dml_loaded *batch;
        status = dml_loader_next(loader, &batch);
        if (status || !batch)
            break;
        const struct dml_images images = {
            .n = batch->n, .height = batch->height, .width = batch->width, .pixels = batch->pixels};
        status = dml_network_embed(network, &images, embeddings + done * dml_network_dim(network));
        done += batch->n;
        dml_loader_release(loader, batch);
        if (!status && stop && *stop)
            status = dml_fail(DML_ERROR_INTERRUPTED, "interrupted while embedding");
        dml_progress_update(&progress, done);
    }
    progress.brief = status != DML_OK; /* the failure has its own message */
    dml_progress_end(&progress);
    return status;
}
