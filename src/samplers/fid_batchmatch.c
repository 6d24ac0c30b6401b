/* Among some random batches of a big set, the one whose Gaussian is nearest to the set's by the
 * Frechet distance (Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a
 * local Nash equilibrium"):
 *
 *     ||m - m'||^2 + tr(C + C' - 2 (C C')^(1/2)) */
#include "base/memory.h"
#include "math/gaussian.h"
#include "samplers/matching.h"

#include <stdlib.h>

/* Added to the variances in the trace of the square root, as the study does. */
static const double RIDGE = 1e-8;

struct workspace {
    struct dml_frechet frechet;
    size_t count;
};

static enum dml_status open_cost(size_t count, size_t dim, void **out) {
    struct workspace *workspace = dml_alloc(1, sizeof *workspace);
    if (!workspace)
        return DML_ERROR_MEMORY;
    workspace->count = count;
    enum dml_status status = dml_frechet_open(&workspace->frechet, count, dim);
    if (status)
        free(workspace);
    else
        *out = workspace;
    return status;
}

static void close_cost(void *data) {
    struct workspace *workspace = data;
    dml_frechet_close(&workspace->frechet);
    free(workspace);
}

static enum dml_status prepare(void *data, const double *x) {
    struct workspace *workspace = data;
    return dml_frechet_prepare(&workspace->frechet, x, workspace->count, RIDGE);
}

static enum dml_status cost(void *data, const uint32_t *positions, size_t n, double *out) {
    struct workspace *workspace = data;
    return dml_frechet_distance(&workspace->frechet, positions, n, out);
}

static enum dml_status plan(void *state, uint64_t epoch, const struct dml_store *store,
                            size_t batches, uint32_t *indices,
                            void (*progress)(void *data, size_t done), void *data) {
    static const struct dml_match_cost frechet_cost = {open_cost, close_cost, prepare, cost};
    return dml_matching_plan(&frechet_cost, state, epoch, store, batches, indices, progress, data);
}

const struct dml_sampler dml_sampler_fid_batchmatch = {
    .method = {.name = "fid_batchmatch",
               .summary =
                   "Among some random batches, the one whose Gaussian is nearest to a big set's "
                   "by the Frechet distance",
               .paper =
                   "Heusel et al. 2017, GANs trained by a two time-scale update rule converge to a "
                   "local Nash equilibrium (for the distance)"},
    .needs_store = true,
    .create = dml_matching_create,
    .plan = plan,
    .destroy = dml_planner_destroy,
};
