/* Milliseconds that every miner takes alone at dim 128: two samples of each class, normalised
 * embeddings scattered around their class. The bounds of issue 3 are for mining and criterion
 * together: see bench_criteria. */
#include "bench.h"
#include "dml/dml.h"

#include "math/linear.h"

#include <stdio.h>
#include <stdlib.h>

enum { DIM = 128 };

struct work {
    struct dml_mining *mining;
    struct dml_batch batch;
    struct dml_tuples tuples;
    uint64_t step;
};

static void mine(void *data) {
    struct work *work = data;
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_MINER, work->step++, 0);
    if (dml_mining_compute(work->mining, &work->batch, &rng, &work->tuples, NULL)) {
        fprintf(stderr, "%s\n", dml_error());
        exit(1);
    }
}

static void bench_batch(size_t n) {
    float *embeddings = malloc(n * DIM * sizeof *embeddings);
    int32_t *labels = malloc(n * sizeof *labels);
    if (!embeddings || !labels)
        exit(1);
    for (size_t i = 0; i < n; i++) {
        labels[i] = (int32_t)(i / 2);
        struct dml_rng centre = dml_rng_make(1, DML_PURPOSE_OTHER, i / 2, 0);
        struct dml_rng own = dml_rng_make(1, DML_PURPOSE_OTHER, i, 1);
        for (size_t k = 0; k < DIM; k++)
            embeddings[i * DIM + k] = (float)(0.7 * dml_rng_normal(&centre) + dml_rng_normal(&own));
    }
    dml_normalize_rows(embeddings, n, DIM, embeddings);
    const struct dml_method *method;
    for (size_t i = 0; (method = dml_method_at(DML_MINER, i)); i++) {
        struct work work = {.batch = {n, DIM, embeddings, labels}};
        struct dml_miner_context context = {.dim = DIM, .margin = 0.2};
        if (dml_mining_open(method->name, NULL, &context, &work.mining)) {
            fprintf(stderr, "%s\n", dml_error());
            exit(1);
        }
        char name[80];
        snprintf(name, sizeof name, "%s, batch %zu", method->name, n);
        bench_report("miners", name, 1e3 * bench_time(mine, &work, 50, 0.3), "ms", 0);
        dml_tuples_free(&work.tuples);
        dml_mining_free(work.mining);
    }
    free(embeddings);
    free(labels);
}

int main(void) {
    bench_batch(112);
    bench_batch(512);
    return 0;
}
