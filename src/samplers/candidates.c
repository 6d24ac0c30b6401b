#include "samplers/candidates.h"

#include "base/memory.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t dml_candidates_count(const struct dml_sampler_context *context) {
    size_t wanted = (size_t)context->shared->batchmatch_bigbs;
    return wanted < context->images ? wanted : context->images;
}

enum dml_status dml_candidates_check(const struct dml_sampler_context *context, size_t need) {
    if (context->shared->batchmatch_bigbs < (int64_t)need)
        return dml_fail(DML_ERROR_USAGE,
                        "--data_batchmatch_bigbs %lld: fewer candidates than the %zu that a batch "
                        "of %zu images takes from them",
                        (long long)context->shared->batchmatch_bigbs, need, context->batch_size);
    return DML_OK;
}

enum dml_status dml_candidates_open(struct dml_candidates *c,
                                    const struct dml_sampler_context *context, size_t count) {
    memset(c, 0, sizeof *c);
    bool projected = context->shared->lowproj_dim > 0;
    c->count = count;
    c->stored_dim = context->dim;
    c->dim = projected ? (size_t)context->shared->lowproj_dim : context->dim;
    c->images = dml_alloc(count, sizeof *c->images);
    c->drawn = dml_alloc(count, sizeof *c->drawn);
    c->x = dml_alloc_aligned(count, c->dim * sizeof *c->x);
    if (projected) {
        c->raw = dml_alloc_aligned(count, c->stored_dim * sizeof *c->raw);
        c->map = dml_alloc_aligned(c->stored_dim, c->dim * sizeof *c->map);
    }
    if (!c->images || !c->drawn || !c->x || (projected && (!c->raw || !c->map))) {
        dml_candidates_close(c);
        return DML_ERROR_MEMORY;
    }
    return DML_OK;
}

void dml_candidates_close(struct dml_candidates *c) {
    free(c->images);
    free(c->drawn);
    free(c->x);
    free(c->raw);
    free(c->map);
    memset(c, 0, sizeof *c);
}

void dml_candidates_draw(struct dml_candidates *c, size_t images, struct dml_rng *rng) {
    dml_rng_distinct(rng, images, c->count, c->drawn);
    for (size_t i = 0; i < c->count; i++)
        c->images[i] = (uint32_t)c->drawn[i];
}

/* On the planner's own thread: BLAS starts no others within its parallel region. */
static void project(struct dml_candidates *c, struct dml_rng *rng) {
    double bound = 1 / sqrt((double)c->stored_dim);
    for (size_t i = 0; i < c->stored_dim * c->dim; i++)
        c->map[i] = bound * (2 * dml_rng_uniform(rng) - 1);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)c->count, (blasint)c->dim,
                (blasint)c->stored_dim, 1.0, c->raw, (blasint)c->stored_dim, c->map,
                (blasint)c->dim, 0.0, c->x, (blasint)c->dim);
}

enum dml_status dml_candidates_load(struct dml_candidates *c, const struct dml_store *store,
                                    struct dml_rng *rng) {
    double *rows = c->map ? c->raw : c->x;
    for (size_t i = 0; i < c->count; i++) {
        const float *stored = store->embeddings + c->images[i] * store->dim;
        double *row = rows + i * store->dim, size = 0;
        for (size_t k = 0; k < store->dim; k++) {
            row[k] = stored[k];
            size += fabs(row[k]);
        }
        if (!isfinite(size))
            return dml_fail(DML_ERROR_NUMERIC,
                            "the stored embedding of training image %u is not finite",
                            (unsigned)c->images[i]);
    }
    if (c->map)
        project(c, rng);
    return DML_OK;
}

void dml_candidates_fill(const struct dml_candidates *c, const struct dml_planner *planner,
                         const uint32_t *chosen, struct dml_rng *rng, uint32_t *indices) {
    const struct dml_sampler_context *context = planner->context;
    const struct dml_classes *classes = &planner->classes;
    for (size_t i = 0; i < context->batch_size; i++)
        if (i % context->samples_per_class == 0)
            indices[i] = c->images[*chosen++];
        else
            indices[i] = dml_classes_image(classes, classes->of_image[indices[i - 1]], rng);
}
