#include "support/sampling.h"

#include <stdlib.h>
#include <string.h>

struct sampling_world sampling_world_make(size_t images, size_t classes) {
    struct sampling_world w = {
        .labels = malloc(images * sizeof(int32_t)),
        .class_sizes = calloc(classes, sizeof(size_t)),
        .shared = {.batchmatch_bigbs = 128, .batchmatch_ncomps = 4, .mb_mom = -1},
    };
    struct dml_rng rng = dml_rng_make(77, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < images; i++) {
        size_t c = dml_rng_below(&rng, classes);
        if (c == 3 || (c == 0 && w.class_sizes[0]))
            c = 1;
        w.labels[i] = (int32_t)c;
        w.class_sizes[c]++;
    }
    w.context = (struct dml_sampler_context){
        .images = images,
        .classes = classes,
        .labels = w.labels,
        .batch_size = 24,
        .samples_per_class = 4,
        .dim = 12,
        .seed = 5,
    };
    return w;
}

void sampling_world_free(struct sampling_world *w) {
    free(w->labels);
    free(w->class_sizes);
}

void sampling_fill(const struct sampling_world *w, struct dml_store *store) {
    if (!store)
        return;
    for (size_t i = 0; i < store->images; i++) {
        struct dml_rng center = dml_rng_make(1, DML_PURPOSE_OTHER, 1, (uint64_t)w->labels[i]);
        struct dml_rng noise = dml_rng_make(1, DML_PURPOSE_OTHER, 2, i);
        for (size_t k = 0; k < store->dim; k++)
            store->embeddings[i * store->dim + k] =
                (float)(dml_rng_normal(&center) + 0.3 * dml_rng_normal(&noise));
    }
}

const struct dml_sampler *sampling_find(const char *name) {
    const struct dml_method *method = dml_method_find(DML_SAMPLER, name);
    assert_non_null(method);
    return (const struct dml_sampler *)method;
}

struct dml_sampling *sampling_open(struct sampling_world *w, const char *name, const char *flags) {
    const struct dml_sampler *sampler = sampling_find(name);
    struct dml_params *params;
    assert_ok(dml_params_new(&params));
    if (sampler->method.params)
        assert_ok(dml_params_add(params, sampler->method.params));
    assert_ok(dml_params_parse_text(params, flags));
    struct dml_sampling *sampling;
    w->context.shared = &w->shared;
    assert_ok(dml_sampling_create(sampler, dml_params_options(params, sampler->method.params),
                                  &w->context, &sampling));
    dml_params_free(params);
    sampling_fill(w, dml_sampling_store(sampling));
    return sampling;
}

uint32_t *sampling_plan(struct dml_sampling *sampling, const struct sampling_world *w,
                        uint64_t epoch) {
    size_t count = dml_sampling_batches(sampling) * w->context.batch_size;
    uint32_t *indices = malloc((count + 1) * sizeof *indices);
    assert_non_null(indices);
    memset(indices, 0xff, (count + 1) * sizeof *indices);
    assert_ok(dml_sampling_plan(sampling, epoch, indices, NULL, NULL));
    assert_int_equal(indices[count], UINT32_MAX);
    for (size_t i = 0; i < count; i++)
        assert_true(indices[i] < w->context.images);
    return indices;
}

uint32_t *sampling_plan_once(struct sampling_world *w, const char *name, const char *flags,
                             uint64_t epoch) {
    struct dml_sampling *sampling = sampling_open(w, name, flags);
    uint32_t *indices = sampling_plan(sampling, w, epoch);
    dml_sampling_free(sampling);
    return indices;
}

void sampling_expect_refused(struct sampling_world *w, const char *name, enum dml_status expected,
                             const char *message) {
    struct dml_sampling *sampling = NULL;
    w->context.shared = &w->shared;
    enum dml_status status = dml_sampling_create(sampling_find(name), NULL, &w->context, &sampling);
    assert_null(sampling);
    assert_int_equal(status, expected);
    if (!strstr(dml_error(), message))
        fail_msg("'%s' does not say '%s'", dml_error(), message);
}
