#include "bench.h"

#include "base/memory.h"
#include "base/progress.h"
#include "dml/samplers.h"

#include <stdio.h>
#include <stdlib.h>

/* Planning an epoch of 60,000 images with the study's settings: 535 batches of 112, with 512
 * candidates and 10 comparisons each. */
enum { IMAGES = 60000, CLASSES = 11000, DIM = 128, BATCH = 112, PER_CLASS = 2 };

struct planning {
    struct dml_sampling *sampling;
    uint32_t *indices;
    uint64_t epoch;
    enum dml_status status;
};

static void plan(void *data) {
    struct planning *planning = data;
    enum dml_status status =
        dml_sampling_plan(planning->sampling, planning->epoch++, planning->indices, NULL, NULL);
    planning->status = planning->status ? planning->status : status;
}

/* Embeddings of length 1 around a centre for each class. */
static void fill(struct dml_store *store, const int32_t *labels) {
    if (!store)
        return;
#pragma omp parallel for
    for (size_t i = 0; i < store->images; i++) {
        struct dml_rng centre = dml_rng_make(0, DML_PURPOSE_OTHER, 1, (uint64_t)labels[i]);
        struct dml_rng noise = dml_rng_make(0, DML_PURPOSE_OTHER, 2, i);
        for (size_t k = 0; k < store->dim; k++)
            store->embeddings[i * store->dim + k] =
                (float)(0.088 * (dml_rng_normal(&centre) + 0.5 * dml_rng_normal(&noise)));
    }
}

static enum dml_status bench_one(const char *name, const char *flags, double bound,
                                 const int32_t *labels) {
    const struct dml_sampler *sampler =
        (const struct dml_sampler *)dml_method_find(DML_SAMPLER, name);
    struct planning planning = {.indices = dml_alloc(IMAGES, sizeof(uint32_t))};
    struct dml_params *params = NULL;
    enum dml_status status = planning.indices ? dml_params_new(&params) : DML_ERROR_MEMORY;
    if (!status)
        status = dml_params_add(params, &dml_sampling_params);
    if (!status && sampler->method.params)
        status = dml_params_add(params, sampler->method.params);
    if (!status)
        status = dml_params_parse_text(params, flags);
    if (status)
        goto out;
    const struct dml_sampler_context context = {
        .images = IMAGES,
        .classes = CLASSES,
        .labels = labels,
        .batch_size = BATCH,
        .samples_per_class = PER_CLASS,
        .dim = DIM,
        .seed = 1,
        .shared = dml_params_options(params, &dml_sampling_params),
    };
    status = dml_sampling_create(sampler, dml_params_options(params, sampler->method.params),
                                 &context, &planning.sampling);
    if (status)
        goto out;
    fill(dml_sampling_store(planning.sampling), labels);
    char title[128];
    snprintf(title, sizeof title, "%s%s%s, 60000 images", name, *flags ? " " : "", flags);
    bench_report("samplers", title, bench_time(plan, &planning, 3, 0), "s", bound);
    status = planning.status;
out:
    dml_sampling_free(planning.sampling);
    dml_params_free(params);
    free(planning.indices);
    return status;
}

int main(void) {
    static const struct {
        const char *name, *flags;
        double bound;
    } cases[] = {
        {"class_random", "", 0},
        {"full_random", "", 0},
        {"greedy_coreset", "", 3},
        {"greedy_coreset", "--data_gc_softened", 3},
        {"greedy_coreset", "--data_sampler_lowproj_dim 32", 3},
        {"d2_coreset", "", 3},
        {"disthist_batchmatch", "", 20},
        {"fid_batchmatch", "", 20},
    };
    int32_t *labels = dml_alloc(IMAGES, sizeof *labels);
    enum dml_status status = labels ? DML_OK : DML_ERROR_MEMORY;
    for (int32_t i = 0; !status && i < IMAGES; i++)
        labels[i] = i % CLASSES;
    for (size_t c = 0; !status && c < sizeof cases / sizeof cases[0]; c++)
        status = bench_one(cases[c].name, cases[c].flags, cases[c].bound, labels);
    if (status)
        fprintf(stderr, "%s\n", dml_error());
    free(labels);
    return status ? 1 : 0;
}
