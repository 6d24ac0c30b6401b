#include "dml/samplers.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#define OPTION(member) offsetof(struct dml_sampling_options, member)

static const char *const measures[] = {"euclidean", NULL};

static const struct dml_param params[] = {
    {"data_batchmatch_bigbs", DML_PARAM_INT, OPTION(batchmatch_bigbs), "512", 1, 0x7fffffff, false,
     NULL,
     .help = "Images that coreset and batch-matching samplers draw as candidates for a batch; "
             "all training images where there are fewer."},
    {"data_batchmatch_ncomps", DML_PARAM_INT, OPTION(batchmatch_ncomps), "10", 1, 1000000, false,
     NULL, .help = "Random batches that a batch matcher compares to find the best."},
    {"data_storage_no_update", DML_PARAM_FLAG, OPTION(storage_no_update), NULL, 0, 0, false, NULL,
     .help = "Keep the sampler's store of embeddings as it was made before the first epoch."},
    {"data_mb_mom", DML_PARAM_FLOAT, OPTION(mb_mom), "-1", -1, 1, false, NULL,
     .help = "Momentum on the changes of the sampler's stored embeddings; 0 or less: none."},
    {"data_sampler_lowproj_dim", DML_PARAM_INT, OPTION(lowproj_dim), "-1", -1, 65536, false, NULL,
     .help = "Project the sampler's stored embeddings by a random linear map to this many "
             "dimensions; 0 or less: leave them."},
    {"data_sim_measure", DML_PARAM_STRING, OPTION(sim_measure), "euclidean", 0, 0, false, measures,
     .help = "Distance between stored embeddings."},
    {"data_idx_full_prec", DML_PARAM_FLAG, OPTION(idx_full_prec), NULL, 0, 0, false, NULL,
     .help = "Deprecated, without effect."},
    {"data_mb_lr", DML_PARAM_FLOAT, OPTION(mb_lr), "1", 0, 0, false, NULL,
     .help = "Deprecated, without effect."},
};

const struct dml_param_table dml_sampling_params =
    DML_PARAM_TABLE("Batch samplers", struct dml_sampling_options, params);

struct dml_sampling {
    const struct dml_sampler *sampler;
    struct dml_sampler_context context;
    struct dml_sampling_options shared;
    struct dml_params *defaults; /* for options that were left out */
    int32_t *labels;
    void *state;
    struct dml_store store; /* embeddings is NULL when the sampler needs none */
};

static enum dml_status check(const struct dml_sampler *sampler,
                             const struct dml_sampler_context *context) {
    size_t size = context->batch_size, run = context->samples_per_class;
    if (run == 0 || size == 0 || size % run != 0)
        return dml_fail(DML_ERROR_USAGE, "--bs %zu: not a multiple of --samples_per_class %zu",
                        size, run);
    if (context->images > UINT32_MAX)
        return dml_fail(DML_ERROR_INPUT, "%zu training images: more than a sampler can number",
                        context->images);
    if (size > context->images)
        return dml_fail(
            DML_ERROR_USAGE,
            "--bs %zu: larger than the training set of %zu images, so that an epoch has "
            "no batch",
            size, context->images);
    if (sampler->needs_store && context->dim == 0)
        return dml_fail(DML_ERROR_USAGE, "%s: embeddings of 0 dimensions", sampler->method.name);
    for (size_t i = 0; i < context->images; i++)
        if (context->labels[i] < 0 || (size_t)context->labels[i] >= context->classes)
            return dml_fail(DML_ERROR_INPUT, "training image %zu: label %d is not in 0..%zu", i,
                            (int)context->labels[i], context->classes - 1);
    return DML_OK;
}

static enum dml_status make_store(struct dml_sampling *sampling) {
    struct dml_store *store = &sampling->store;
    store->images = sampling->context.images;
    store->dim = sampling->context.dim;
    if (store->dim > SIZE_MAX / store->images)
        return dml_fail(DML_ERROR_MEMORY, "%s: a store of %zu x %zu floats",
                        sampling->sampler->method.name, store->images, store->dim);
    store->embeddings = dml_alloc(store->images * store->dim, sizeof *store->embeddings);
    if (!store->embeddings)
        return DML_ERROR_MEMORY;
    if (sampling->shared.mb_mom > 0 && !sampling->shared.storage_no_update) {
        store->changes = dml_alloc(store->images * store->dim, sizeof *store->changes);
        if (!store->changes)
            return DML_ERROR_MEMORY;
    }
    return DML_OK;
}

/* Options that the caller left out take the defaults of their tables. */
static enum dml_status fill_options(struct dml_sampling *sampling,
                                    const struct dml_sampling_options *shared,
                                    const void **options) {
    const struct dml_param_table *own = sampling->sampler->method.params;
    enum dml_status status = dml_params_new(&sampling->defaults);
    if (!status)
        status = dml_params_add(sampling->defaults, &dml_sampling_params);
    if (!status && own)
        status = dml_params_add(sampling->defaults, own);
    if (status)
        return status;
    if (!shared)
        shared = dml_params_options(sampling->defaults, &dml_sampling_params);
    if (!*options)
        *options = dml_params_options(sampling->defaults, own);
    sampling->shared = *shared;
    sampling->shared.sim_measure = NULL; /* the caller's string; there is one measure */
    sampling->context.shared = &sampling->shared;
    return DML_OK;
}

enum dml_status dml_sampling_create(const struct dml_sampler *sampler, const void *options,
                                    const struct dml_sampler_context *context,
                                    struct dml_sampling **out) {
    enum dml_status status = check(sampler, context);
    if (status)
        return status;
    struct dml_sampling *sampling = dml_alloc(1, sizeof *sampling);
    if (!sampling)
        return DML_ERROR_MEMORY;
    sampling->sampler = sampler;
    sampling->context = *context;
    status = fill_options(sampling, context->shared, &options);
    if (status)
        goto out;
    sampling->context.labels = sampling->labels = dml_alloc(context->images, sizeof(int32_t));
    if (!sampling->labels) {
        status = DML_ERROR_MEMORY;
        goto out;
    }
    memcpy(sampling->labels, context->labels, context->images * sizeof(int32_t));
    status = sampler->needs_store ? make_store(sampling) : DML_OK;
    if (!status)
        status = sampler->create(options, &sampling->context, &sampling->state);
out:
    if (status)
        dml_sampling_free(sampling);
    else
        *out = sampling;
    return status;
}

enum dml_status dml_sampling_open(const char *sampler, const char *flags,
                                  const struct dml_sampler_context *context,
                                  struct dml_sampling **out) {
    const struct dml_sampler *found =
        (const struct dml_sampler *)dml_method_find(DML_SAMPLER, sampler);
    if (!found)
        return dml_method_unknown(DML_SAMPLER, sampler);
    const struct dml_param_table *table = found->method.params;
    struct dml_params *params;
    enum dml_status status = dml_params_new(&params);
    if (status)
        return status;
    status = dml_params_add(params, &dml_sampling_params);
    if (!status && table)
        status = dml_params_add(params, table);
    if (!status && flags)
        status = dml_params_parse_text(params, flags);
    if (!status) {
        struct dml_sampler_context own = *context;
        own.shared = dml_params_options(params, &dml_sampling_params);
        status = dml_sampling_create(found, dml_params_options(params, table), &own, out);
    }
    dml_params_free(params); /* samplers copy their options */
    return status;
}

void dml_sampling_free(struct dml_sampling *sampling) {
    if (!sampling)
        return;
    if (sampling->state)
        sampling->sampler->destroy(sampling->state);
    free(sampling->store.embeddings);
    free(sampling->store.changes);
    dml_params_free(sampling->defaults);
    free(sampling->labels);
    free(sampling);
}

size_t dml_sampling_batches(const struct dml_sampling *sampling) {
    return sampling->context.images / sampling->context.batch_size;
}

enum dml_status dml_sampling_plan(struct dml_sampling *sampling, uint64_t epoch, uint32_t *indices,
                                  void (*progress)(void *data, size_t done), void *data) {
    enum dml_status status =
        sampling->sampler->plan(sampling->state, epoch, dml_sampling_store(sampling),
                                dml_sampling_batches(sampling), indices, progress, data);
    return status ? dml_fail_within(status, "%s", sampling->sampler->method.name) : DML_OK;
}

struct dml_store *dml_sampling_store(struct dml_sampling *sampling) {
    return sampling->store.embeddings ? &sampling->store : NULL;
}

void dml_sampling_update(struct dml_sampling *sampling, const uint32_t *indices, size_t n,
                         const float *embeddings) {
    const struct dml_store *store = dml_sampling_store(sampling);
    if (!store || sampling->shared.storage_no_update)
        return;
    float momentum = (float)sampling->shared.mb_mom;
    for (size_t i = 0; i < n; i++) {
        const float *new = embeddings + i * store->dim;
        float *stored = store->embeddings + indices[i] * store->dim;
        if (!store->changes) {
            memcpy(stored, new, store->dim * sizeof *stored);
            continue;
        }
        float *change = store->changes + indices[i] * store->dim;
        for (size_t k = 0; k < store->dim; k++) {
            change[k] = momentum * change[k] + (1 - momentum) * (new[k] - stored[k]);
            stored[k] = new[k] + change[k];
        }
    }
}
