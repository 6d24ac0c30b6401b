/* Points far from each other but where density is high, like the seeding of Arthur, Vassilvitskii
 * 2007, "k-means++: the advantages of careful seeding".
 *
 * Among candidates drawn from the store, with N the Gaussian of their mean and covariance: start at
 * the one nearest to a draw from N, then draw bs / samples_per_class - 1 others x with probability
 * proportional to
 *
 *     N(x) (sum over the chosen c of ||x - c||^2)^lambda
 *
 * The rest of the batch is random images of the same classes. */
#include "samplers/d2_coreset.h"

#include "base/memory.h"
#include "math/gaussian.h"
#include "samplers/coreset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double lambda;
};

static const struct dml_param params[] = {
    {"data_d2_coreset_lambda", DML_PARAM_FLOAT, offsetof(struct options, lambda), "1", 0, 1e6,
     false, NULL,
     .help = "Exponent of a candidate's summed squared distances to those chosen, relative to its "
             "density."},
};

static const struct dml_param_table table =
    DML_PARAM_TABLE("Batch sampler: d2_coreset", struct options, params);

/* Share of the mean variance added to every variance, so that a set of fewer candidates than
 * dimensions has a density too; otherwise far below what float32 embeddings resolve. */
static const double RIDGE = 1e-8;

struct d2 {
    struct dml_planner planner;
    struct options options;
};

struct workspace {
    struct dml_coreset coreset;
    struct dml_gaussian gaussian;
    double *log_density; /* (n) */
    double *sums;        /* (n) */
    double *weights;     /* (n) */
    double *point;       /* (2 dim) */
};

/* In logarithms: densities in a hundred dimensions differ by more than a double's range. */
void dml_d2_probabilities(const double *log_density, const double *sums, size_t n, double lambda,
                          double *out) {
    double largest = -INFINITY, total = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(sums[i]))
            out[i] = -INFINITY;
        else
            out[i] = log_density[i] + (lambda > 0 ? lambda * log(sums[i]) : 0);
        largest = fmax(largest, out[i]);
    }
    for (size_t i = 0; i < n; i++) {
        if (largest > -INFINITY)
            out[i] = exp(out[i] - largest);
        else
            out[i] = !isnan(sums[i]);
        total += out[i];
    }
    for (size_t i = 0; i < n && total > 0; i++)
        out[i] /= total;
}

static void workspace_close(void *data) {
    struct workspace *workspace = data;
    if (!workspace)
        return;
    dml_coreset_close(&workspace->coreset);
    dml_gaussian_close(&workspace->gaussian);
    free(workspace->log_density);
    free(workspace->sums);
    free(workspace->weights);
    free(workspace->point);
    free(workspace);
}

static enum dml_status workspace_open(const struct dml_planner *planner, void **out) {
    struct workspace *workspace = dml_alloc(1, sizeof *workspace);
    if (!workspace)
        return DML_ERROR_MEMORY;
    enum dml_status status = dml_coreset_open(&workspace->coreset, planner);
    size_t n = workspace->coreset.candidates.count, dim = workspace->coreset.candidates.dim;
    if (!status)
        status = dml_gaussian_open(&workspace->gaussian, n, dim);
    workspace->log_density = dml_alloc(n, sizeof(double));
    workspace->sums = dml_alloc(n, sizeof(double));
    workspace->weights = dml_alloc(n, sizeof(double));
    workspace->point = dml_alloc(2 * dim, sizeof(double));
    if (status || !workspace->log_density || !workspace->sums || !workspace->weights ||
        !workspace->point) {
        workspace_close(workspace);
        return DML_ERROR_MEMORY;
    }
    *out = workspace;
    return DML_OK;
}

/* The candidate nearest to a draw from the candidates' own Gaussian. */
static size_t draw_start(struct workspace *workspace, struct dml_rng *rng) {
    const struct dml_gaussian *g = &workspace->gaussian;
    double *point = workspace->point, *z = point + g->dim, least = INFINITY;
    for (size_t k = 0; k < g->dim; k++)
        z[k] = dml_rng_normal(rng);
    for (size_t k = 0; k < g->dim; k++) {
        point[k] = g->mean[k];
        for (size_t l = 0; l <= k; l++)
            point[k] += g->factor[k * g->dim + l] * z[l];
    }
    const struct dml_candidates *candidates = &workspace->coreset.candidates;
    size_t best = 0;
    for (size_t i = 0; i < candidates->count; i++) {
        const double *x = candidates->x + i * g->dim;
        double distance = 0;
        for (size_t k = 0; k < g->dim; k++)
            distance += (x[k] - point[k]) * (x[k] - point[k]);
        if (distance < least) {
            least = distance;
            best = i;
        }
    }
    return best;
}

static void draw_rest(const struct d2 *d2, struct workspace *workspace, size_t next,
                      struct dml_rng *rng) {
    const struct dml_coreset *coreset = &workspace->coreset;
    size_t n = coreset->candidates.count;
    memset(workspace->sums, 0, n * sizeof *workspace->sums);
    for (size_t k = 0; k < coreset->choices; k++) {
        if (k > 0) {
            dml_d2_probabilities(workspace->log_density, workspace->sums, n, d2->options.lambda,
                                 workspace->weights);
            next = dml_rng_choice(rng, workspace->weights, n);
        }
        coreset->chosen[k] = (uint32_t)next;
        for (size_t i = 0; i < n; i++)
            workspace->sums[i] += coreset->distances2[next * n + i];
        workspace->sums[next] = NAN;
    }
}

static enum dml_status batch(const struct dml_planner *planner, const struct dml_store *store,
                             void *data, struct dml_rng *rng, uint32_t *indices) {
    struct workspace *workspace = data;
    const struct dml_candidates *candidates = &workspace->coreset.candidates;
    size_t n = candidates->count;
    enum dml_status status = dml_coreset_draw(&workspace->coreset, planner, store, rng);
    if (!status)
        status = dml_gaussian_fit_relative(&workspace->gaussian, candidates->x, n, RIDGE);
    if (status)
        return status;
    dml_gaussian_mahalanobis2(&workspace->gaussian, n, workspace->log_density);
    for (size_t i = 0; i < n; i++)
        workspace->log_density[i] *= -0.5;
    size_t start = draw_start(workspace, rng);
    draw_rest((const struct d2 *)planner, workspace, start, rng);
    dml_candidates_fill(candidates, planner, workspace->coreset.chosen, rng, indices);
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
    enum dml_status status = dml_coreset_planner_new(sizeof(struct d2), context, state);
    if (!status)
        ((struct d2 *)*state)->options = *(const struct options *)options;
    return status;
}

const struct dml_sampler dml_sampler_d2_coreset = {
    .method = {.name = "d2_coreset",
               .summary = "Images drawn by density and distance to those drawn before, with random "
                          "images of their classes",
               .paper =
                   "Arthur and Vassilvitskii 2007, k-means++: the advantages of careful seeding",
               .params = &table},
    .needs_store = true,
    .create = create,
    .plan = plan,
    .destroy = dml_planner_destroy,
};
