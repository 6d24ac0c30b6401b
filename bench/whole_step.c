#include "whole_step.h"

#include "bench.h"
#include "dml/miners.h"

#include <stdio.h>
#include <stdlib.h>

enum { PATH = 512, BATCHES = 64 };

struct whole_step {
    struct dml_part part;
    struct dml_loader *loader;
    uint32_t *order; /* (BATCHES, batch) */
    size_t batch, dim;
    uint64_t steps, passes;
    struct dml_mining *mining;
    struct dml_objective *objective;
    struct dml_tuples tuples;
};

static void list_photographs(struct dml_part *part, size_t batch) {
    static const char *const photos[] = {"astronaut", "chelsea", "coffee"};
    char *text = malloc(batch * PATH);
    part->name = "photographs";
    part->images = batch;
    part->classes = batch / 2;
    part->paths = calloc(batch, sizeof *part->paths);
    part->labels = calloc(batch, sizeof *part->labels);
    for (size_t i = 0; i < batch; i++) {
        part->paths[i] = text + i * PATH;
        snprintf(part->paths[i], PATH, "%s/tests/golden/transforms/%s.jpg", DML_SOURCE_DIR,
                 photos[i % 3]);
        part->labels[i] = (int32_t)(i / 2);
    }
}

struct whole_step *whole_step_open(size_t batch, int size, size_t dim, int threads, char *cache,
                                   bool training, struct dml_memory_source memory) {
    struct whole_step *w = calloc(1, sizeof *w);
    w->batch = batch;
    w->dim = dim;
    list_photographs(&w->part, batch);
    w->order = malloc(BATCHES * batch * sizeof *w->order);
    for (size_t i = 0; i < BATCHES * batch; i++)
        w->order[i] = (uint32_t)(i % batch);
    struct dml_loader_options options = {.part = &w->part,
                                         .batch_size = batch,
                                         .threads = threads,
                                         .cache = cache,
                                         .pixels = memory};
    options.transform = dml_transform_of(DML_AUGMENTATION_BASE, training, size, 0, 0.08);
    bench_ok(dml_loader_open(&options, &w->loader));
    if (!training)
        return w;
    const struct dml_criterion_context criterion = {
        .dim = dim, .classes = batch / 2, .miner = "distance"};
    bench_ok(dml_objective_open("margin", NULL, &criterion, &w->objective));
    bench_ok(dml_mining_open("distance", NULL, &(struct dml_miner_context){dim, 0.2}, &w->mining));
    whole_step_start(w, BATCHES);
    return w;
}

void whole_step_close(struct whole_step *w) {
    if (!w)
        return;
    dml_loader_close(w->loader);
    dml_objective_free(w->objective);
    dml_mining_free(w->mining);
    dml_tuples_free(&w->tuples);
    free(w->part.paths[0]);
    free(w->part.paths);
    free(w->part.labels);
    free(w->order);
    free(w);
}

void whole_step_start(struct whole_step *w, size_t batches) {
    bench_ok(dml_loader_start(w->loader, w->passes++, w->order, batches * w->batch));
}

const struct dml_loaded *whole_step_take(struct whole_step *w) {
    const struct dml_loaded *loaded;
    bench_ok(dml_loader_next(w->loader, &loaded));
    if (loaded)
        return loaded;
    whole_step_start(w, BATCHES);
    bench_ok(dml_loader_next(w->loader, &loaded));
    return loaded;
}

const struct dml_loaded *whole_step_peek(struct whole_step *w) {
    return dml_loader_peek(w->loader);
}

void whole_step_give_back(struct whole_step *w, const struct dml_loaded *loaded) {
    dml_loader_release(w->loader, loaded);
}

void whole_step_learn(struct whole_step *w, const struct dml_loaded *loaded,
                      const float *embeddings, float *grad) {
    const struct dml_batch batch = {w->batch, w->dim, embeddings, loaded->labels, NULL};
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_MINER, w->steps++, 0);
    struct dml_loss loss;
    bench_ok(dml_mining_compute(w->mining, &batch, &rng, &w->tuples, NULL));
    bench_ok(dml_objective_compute(w->objective, &batch, &w->tuples, &rng, grad, &loss));
}
