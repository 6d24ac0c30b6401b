/* Farthest points. Sener, Savarese 2018, "Active learning for convolutional neural networks: a
 * core-set approach".
 *
 * Of candidates drawn from the store, starting at a random one, takes bs / samples_per_class times
 * the one with the largest squared distance to its nearest chosen one (softened: a random one of
 * the farthest 3 percent). The rest of the batch is random images of the same classes. */
#include "samplers/greedy_coreset.h"

#include "base/memory.h"
#include "samplers/coreset.h"

#include <math.h>
#include <stdlib.h>

static const struct dml_param params[] = {
    {"data_gc_softened", DML_PARAM_FLAG, offsetof(struct dml_greedy_options, softened), NULL, 0, 0,
     false, NULL,
     .help = "Take a random one of the 3 percent of candidates farthest from those chosen instead "
             "of the farthest."},
    {"data_gc_coreset_lim", DML_PARAM_FLOAT, offsetof(struct dml_greedy_options, coreset_lim),
     "1e-9", 0, INFINITY, false, NULL,
     .help = "Squared distance up to which a candidate counts as one already chosen; where only "
             "such are left, the rest are drawn at random."},
};

static const struct dml_param_table table =
    DML_PARAM_TABLE("Batch sampler: greedy_coreset", struct dml_greedy_options, params);

enum { CHOSEN = -1 }; /* in place of a squared distance */

static size_t farthest(const double *nearest, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (nearest[i] > nearest[best])
            best = i;
    return best;
}

/* A random one of the points, not chosen yet, whose value is `least` or more; n when none is. */
static size_t random_above(const double *nearest, size_t n, double least, struct dml_rng *rng) {
    size_t matches = 0;
    for (size_t i = 0; i < n; i++)
        matches += nearest[i] >= least;
    if (matches == 0)
        return n;
    for (size_t skip = dml_rng_below(rng, matches), i = 0;; i++)
        if (nearest[i] >= least && skip-- == 0)
            return i;
}

/* The smallest of the n - ceil(0.97 (n - 1)) largest values: it and those above are the ones that
 * reach the interpolated 97th percentile. Kept in a heap with the smallest value on top. */
static double top_percent(const double *values, size_t n, double *heap) {
    size_t size = n - (size_t)ceil(0.97 * (double)(n - 1));
    for (size_t i = 0; i < size; i++)
        heap[i] = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (values[i] <= heap[0])
            continue;
        size_t at = 0;
        for (size_t child; (child = 2 * at + 1) < size; at = child) {
            child += child + 1 < size && heap[child + 1] < heap[child];
            if (heap[child] >= values[i])
                break;
            heap[at] = heap[child];
        }
        heap[at] = values[i];
    }
    return heap[0];
}

void dml_greedy_coreset_select(const double *distances2, size_t n, size_t start, size_t count,
                               const struct dml_greedy_options *options, struct dml_rng *rng,
                               double *nearest, uint32_t *out) {
    /* The study starts from the norms of the rows, which no distance in a row exceeds: after the
     * first point the running minimum is the distance to it in either case. */
    for (size_t i = 0; i < n; i++)
        nearest[i] = INFINITY;
    double *heap = nearest + n;
    size_t next = start;
    for (size_t k = 0; k < count; k++) {
        if (k > 0) {
            next = farthest(nearest, n);
            if (nearest[next] <= options->coreset_lim)
                next = random_above(nearest, n, 0, rng);
            else if (options->softened)
                next = random_above(nearest, n, fmax(top_percent(nearest, n, heap), 0), rng);
        }
        out[k] = (uint32_t)next;
        const double *row = distances2 + next * n;
        for (size_t i = 0; i < n; i++)
            nearest[i] = row[i] < nearest[i] ? row[i] : nearest[i];
        nearest[next] = CHOSEN;
    }
}

struct greedy {
    struct dml_planner planner;
    struct dml_greedy_options options;
};

struct workspace {
    struct dml_coreset coreset;
    double *nearest; /* (2n) */
};

static void workspace_close(void *data) {
    struct workspace *workspace = data;
    if (!workspace)
        return;
    dml_coreset_close(&workspace->coreset);
    free(workspace->nearest);
    free(workspace);
}

static enum dml_status workspace_open(const struct dml_planner *planner, void **out) {
    struct workspace *workspace = dml_alloc(1, sizeof *workspace);
    if (!workspace)
        return DML_ERROR_MEMORY;
    enum dml_status status = dml_coreset_open(&workspace->coreset, planner);
    workspace->nearest = dml_alloc_aligned(2 * workspace->coreset.candidates.count, sizeof(double));
    if (status || !workspace->nearest) {
        workspace_close(workspace);
        return DML_ERROR_MEMORY;
    }
    *out = workspace;
    return DML_OK;
}

static enum dml_status batch(const struct dml_planner *planner, const struct dml_store *store,
                             void *data, struct dml_rng *rng, uint32_t *indices) {
    const struct greedy *greedy = (const struct greedy *)planner;
    struct workspace *workspace = data;
    struct dml_coreset *coreset = &workspace->coreset;
    enum dml_status status = dml_coreset_draw(coreset, planner, store, rng);
    if (status)
        return status;
    size_t n = coreset->candidates.count, start = dml_rng_below(rng, n);
    dml_greedy_coreset_select(coreset->distances2, n, start, coreset->choices, &greedy->options,
                              rng, workspace->nearest, coreset->chosen);
    dml_candidates_fill(&coreset->candidates, planner, coreset->chosen, rng, indices);
    return DML_OK;
}

static enum dml_status plan(void *state, uint64_t epoch, const struct dml_store *store,
                            size_t batches, uint32_t *indices,
                            void (*progress)(void *data, size_t done), void *data) {
    static const struct dml_batch_work work = {workspace_open, workspace_close, batch};
    return dml_plan_epoch(&work, state, epoch, store, batches, indices, progress, data);
}

static enum dml_status create(const void *options, const struct dml_sampler_context *context,
                              void **state) {
    enum dml_status status = dml_coreset_planner_new(sizeof(struct greedy), context, state);
    if (!status)
        ((struct greedy *)*state)->options = *(const struct dml_greedy_options *)options;
    return status;
}

const struct dml_sampler dml_sampler_greedy_coreset = {
    .method = {.name = "greedy_coreset",
               .summary = "Images far from each other in the embedding space, by farthest-point "
                          "traversal, with random images of their classes",
               .paper = "Sener and Savarese 2018, Active learning for convolutional neural "
                        "networks: a core-set approach",
               .params = &table},
    .needs_store = true,
    .create = create,
    .plan = plan,
    .destroy = dml_planner_destroy,
};
