#include "samplers/matching.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

struct matching {
    struct dml_planner planner;
    const struct dml_match_cost *cost; /* set by each plan */
};

/* What a thread works in. A run is samples_per_class consecutive positions of one class. */
struct workspace {
    const struct dml_match_cost *cost;
    void *cost_workspace;
    struct dml_candidates candidates;
    size_t runs, run_length, groups;
    uint32_t *group_of_class; /* (classes) valid for classes of this big set */
    uint32_t *group_of_run;   /* (runs) */
    uint32_t *group_first;    /* (runs + 2) offsets into group_runs, groups + 1 of them in use */
    uint32_t *group_runs;     /* (runs), class after class */
    uint64_t *drawn;          /* (run_length) */
    uint32_t *batch, *best;   /* (batch_size) positions */
};

static size_t big_runs(const struct dml_sampler_context *context) {
    return dml_candidates_count(context) / context->samples_per_class;
}

static void workspace_close(void *data) {
    struct workspace *workspace = data;
    if (!workspace)
        return;
    if (workspace->cost_workspace)
        workspace->cost->close(workspace->cost_workspace);
    dml_candidates_close(&workspace->candidates);
    free(workspace->group_of_class);
    free(workspace->group_of_run);
    free(workspace->group_first);
    free(workspace->group_runs);
    free(workspace->drawn);
    free(workspace->batch);
    free(workspace->best);
    free(workspace);
}

static enum dml_status workspace_open(const struct dml_planner *planner, void **out) {
    const struct dml_sampler_context *context = planner->context;
    struct workspace *workspace = dml_alloc(1, sizeof *workspace);
    if (!workspace)
        return DML_ERROR_MEMORY;
    workspace->cost = ((const struct matching *)planner)->cost;
    workspace->run_length = context->samples_per_class;
    workspace->runs = big_runs(context);
    size_t count = workspace->runs * workspace->run_length;
    enum dml_status status = dml_candidates_open(&workspace->candidates, context, count);
    if (!status)
        status =
            workspace->cost->open(count, workspace->candidates.dim, &workspace->cost_workspace);
    workspace->group_of_class = dml_alloc(planner->classes.count, sizeof(uint32_t));
    workspace->group_of_run = dml_alloc(workspace->runs, sizeof(uint32_t));
    workspace->group_first = dml_alloc(workspace->runs + 2, sizeof(uint32_t));
    workspace->group_runs = dml_alloc(workspace->runs, sizeof(uint32_t));
    workspace->drawn = dml_alloc(workspace->run_length, sizeof(uint64_t));
    workspace->batch = dml_alloc(context->batch_size, sizeof(uint32_t));
    workspace->best = dml_alloc(context->batch_size, sizeof(uint32_t));
    if (status || !workspace->group_of_class || !workspace->group_of_run ||
        !workspace->group_first || !workspace->group_runs || !workspace->drawn ||
        !workspace->batch || !workspace->best) {
        workspace_close(workspace);
        return DML_ERROR_MEMORY;
    }
    *out = workspace;
    return DML_OK;
}

/* Draws the big set and sorts its runs by class: a class may be drawn several times. */
static void draw_big_set(const struct dml_planner *planner, struct workspace *workspace,
                         struct dml_rng *rng) {
    const struct dml_classes *classes = &planner->classes;
    memset(workspace->group_of_class, 0xff, classes->count * sizeof(uint32_t));
    memset(workspace->group_first, 0, (workspace->runs + 2) * sizeof(uint32_t));
    workspace->groups = 0;
    for (size_t r = 0; r < workspace->runs; r++) {
        uint32_t *images = workspace->candidates.images + r * workspace->run_length;
        dml_classes_run(classes, workspace->run_length, rng, images);
        uint32_t *group = &workspace->group_of_class[classes->of_image[*images]];
        if (*group == UINT32_MAX)
            *group = (uint32_t)workspace->groups++;
        workspace->group_of_run[r] = *group;
        workspace->group_first[*group + 2]++;
    }
    for (size_t g = 0; g < workspace->groups; g++)
        workspace->group_first[g + 2] += workspace->group_first[g + 1];
    for (size_t r = 0; r < workspace->runs; r++)
        workspace->group_runs[workspace->group_first[workspace->group_of_run[r] + 1]++] =
            (uint32_t)r;
}

static void draw_batch(struct workspace *workspace, size_t size, struct dml_rng *rng) {
    size_t length = workspace->run_length;
    for (size_t at = 0; at < size; at += length) {
        size_t group = dml_rng_below(rng, workspace->groups);
        const uint32_t *runs = workspace->group_runs + workspace->group_first[group];
        size_t count = workspace->group_first[group + 1] - workspace->group_first[group];
        dml_rng_distinct(rng, count * length, length, workspace->drawn);
        for (size_t i = 0; i < length; i++)
            workspace->batch[at + i] = (uint32_t)(runs[workspace->drawn[i] / length] * length +
                                                  workspace->drawn[i] % length);
    }
}

static enum dml_status batch(const struct dml_planner *planner, const struct dml_store *store,
                             void *data, struct dml_rng *rng, uint32_t *indices) {
    struct workspace *workspace = data;
    size_t size = planner->context->batch_size;
    draw_big_set(planner, workspace, rng);
    enum dml_status status = dml_candidates_load(&workspace->candidates, store, rng);
    if (!status)
        status = workspace->cost->prepare(workspace->cost_workspace, workspace->candidates.x);
    double least = 0;
    for (int64_t k = 0; !status && k < planner->context->shared->batchmatch_ncomps; k++) {
        double cost = 0;
        draw_batch(workspace, size, rng);
        status = workspace->cost->cost(workspace->cost_workspace, workspace->batch, size, &cost);
        if (k > 0 && !(cost < least))
            continue;
        least = cost;
        uint32_t *swap = workspace->best;
        workspace->best = workspace->batch;
        workspace->batch = swap;
    }
    for (size_t i = 0; !status && i < size; i++)
        indices[i] = workspace->candidates.images[workspace->best[i]];
    return status;
}

enum dml_status dml_matching_create(const void *options, const struct dml_sampler_context *context,
                                    void **state) {
    (void)options;
    if (context->shared->batchmatch_ncomps < 1)
        return dml_fail(DML_ERROR_USAGE, "--data_batchmatch_ncomps %lld: no batch to choose from",
                        (long long)context->shared->batchmatch_ncomps);
    enum dml_status status = dml_candidates_check(context, context->batch_size);
    return status ? status : dml_planner_new(sizeof(struct matching), context, state);
}

enum dml_status dml_matching_plan(const struct dml_match_cost *cost, void *state, uint64_t epoch,
                                  const struct dml_store *store, size_t batches, uint32_t *indices,
                                  void (*progress)(void *data, size_t done), void *data) {
    static const struct dml_batch_work work = {workspace_open, workspace_close, batch};
    struct matching *matching = state;
    matching->cost = cost;
    return dml_plan_epoch(&work, &matching->planner, epoch, store, batches, indices, progress,
                          data);
}
