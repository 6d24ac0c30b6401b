/* Negatives by a given distribution over distance. Roth, Milbich, Ommer 2020, "PADS: policy-adapted
 * sampling for visual similarity learning" (without its learnt policy).
 *
 * For every anchor a random positive, and a negative with probability proportional to the weight of
 * the bin that d_an lies in. n_support points cut the range support_lim into bins of equal width;
 * the mode gives each the weight 1 or 1e-15. Negatives beyond the range are drawn only where an
 * anchor has no other. */
#include "miners/weighted.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

struct options {
    int64_t n_support;
    struct dml_floats support_lim;
    enum mode { UNIFORM, HARDS, SEMIHARDS, VERYHARDS } mode;
};

static const char *const modes[] = {[UNIFORM] = "uniform",
                                    [HARDS] = "hards",
                                    [SEMIHARDS] = "semihards",
                                    [VERYHARDS] = "veryhards",
                                    NULL};

static const struct dml_param params[] = {
    {.name = "miner_parametric_n_support",
     .type = DML_PARAM_INT,
     .offset = offsetof(struct options, n_support),
     .fallback = "10",
     .min = 2,
     .max = 10000,
     .help = "Support points of the distribution over distance."},
    {.name = "miner_parametric_support_lim",
     .type = DML_PARAM_FLOATS,
     .offset = offsetof(struct options, support_lim),
     .fallback = "0.1 1.9",
     .min = 0,
     .max = 1e6,
     .help =
         "First and last support point; negatives outside are drawn only when all lie outside."},
    {.name = "miner_parametric_mode",
     .type = DML_PARAM_CHOICE,
     .offset = offsetof(struct options, mode),
     .fallback = "uniform",
     .choices = modes,
     .help = "Where the weight lies: everywhere, distances up to 0.5, 0.3 to 0.7, up to 0.3."},
};

static const struct dml_param_table table =
    DML_PARAM_TABLE("Batch miner: parametric", struct options, params);

static enum dml_status create(const void *options, const struct dml_miner_context *context,
                              void **state) {
    const struct options *own = options;
    const struct dml_floats *lim = &own->support_lim;
    if (lim->count != 2)
        return dml_fail(DML_ERROR_USAGE,
                        "--miner_parametric_support_lim takes two distances, got %zu", lim->count);
    if (!(lim->items[0] < lim->items[1]))
        return dml_fail(DML_ERROR_USAGE,
                        "--miner_parametric_support_lim must rise, but %g is not below %g",
                        lim->items[0], lim->items[1]);
    return miner_create(options, context, state);
}

/* Weight of the bin that begins at support point `support`. */
static double bin_weight(enum mode mode, double support) {
    bool inside = true;
    if (mode == HARDS)
        inside = support <= 0.5;
    else if (mode == SEMIHARDS)
        inside = support >= 0.3 && support <= 0.7;
    else if (mode == VERYHARDS)
        inside = support <= 0.3;
    return inside ? 1 : 1e-15; /* so that there is something to draw when nothing lies inside */
}

/* weights (n_support - 1): of the bins between the support points. They need not sum to 1: a draw
 * is relative to the sum over an anchor's negatives. */
static void fill_bins(const struct options *options, float *weights) {
    const double *lim = options->support_lim.items;
    double width = (lim[1] - lim[0]) / (double)(options->n_support - 1);
    for (int64_t b = 0; b + 1 < options->n_support; b++)
        weights[b] = (float)bin_weight(options->mode, lim[0] + width * (double)b);
}

/* Distances outside the limits get 0, or with `everywhere` count towards the outermost bins.
 * Returns whether there is a weight above 0. */
static bool weigh_within(const struct miner_state *state, const float *bins, size_t anchor,
                         bool everywhere, float *weights) {
    const struct options *options = state->options;
    const uint32_t *class_of = state->classes.class_of, own = class_of[anchor];
    const float low = (float)options->support_lim.items[0];
    const float high = (float)options->support_lim.items[1];
    const int32_t last = (int32_t)options->n_support - 2;
    const float scale = (float)(last + 1) / (high - low);
    int any = 0;
    miner_distances2(state, anchor, 0, weights);
#pragma omp simd reduction(| : any)
    for (size_t j = 0; j < state->classes.n; j++) {
        float d = sqrtf(weights[j]);
        int drawn = (class_of[j] != own) & (everywhere | ((d >= low) & (d <= high)));
        /* A bin includes its right edge but not its left one. */
        float at = fminf(d, high);
        int32_t bin = (int32_t)ceilf((at - low) * scale) - 1;
        bin = bin < 0 ? 0 : bin > last ? last : bin;
        weights[j] = drawn ? bins[bin] : 0;
        any |= drawn;
    }
    return any;
}

static void weigh(const struct miner_state *state, const struct dml_batch *batch, const void *data,
                  size_t anchor, size_t positive, float *weights) {
    (void)batch;
    (void)positive;
    if (!weigh_within(state, data, anchor, false, weights))
        weigh_within(state, data, anchor, true, weights);
}

static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)swapped;
    const struct miner_state *own = state;
    const struct options *options = own->options;
    float *bins = dml_alloc((size_t)options->n_support - 1, sizeof *bins);
    if (!bins)
        return DML_ERROR_MEMORY;
    fill_bins(options, bins);
    enum dml_status status = miner_start_triplets(state, batch, rng, out);
    if (!status)
        status = miner_measure(state, batch);
    if (!status)
        status = miner_draw_negatives(state, batch, weigh, bins, out);
    free(bins);
    return status;
}

const struct dml_miner dml_miner_parametric = {
    .method = {.name = "parametric",
               .summary = "Negatives drawn by a piecewise-constant distribution over distance",
               .paper = "Roth et al. 2020, PADS: policy-adapted sampling for visual similarity "
                        "learning",
               .params = &table},
    .gives = DML_TUPLES_TRIPLETS,
    .create = create,
    .mine = mine,
    .destroy = miner_destroy,
};
