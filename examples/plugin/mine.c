/* A criterion and a batch miner of your own, both called "mine", in one file. */
#include <dml/plugin.h>

#include <math.h>
#include <stdlib.h>

/* ---- criterion: mean over triplets of log(1 + exp(scale (|a-p|^2 - |a-n|^2))) ---- */

struct loss_options {
    double scale;
};

static const struct dml_param loss_params[] = {
    {.name = "loss_mine_scale",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct loss_options, scale),
     .fallback = "4",
     .min = 0,
     .max = 1000,
     .above_min = true,
     .help = "Steepness: large is nearly a hinge"},
};
static const struct dml_param_table loss_table =
    DML_PARAM_TABLE("Criterion: mine", struct loss_options, loss_params);

static enum dml_status loss_create(const void *options, const struct dml_criterion_context *context,
                                   void **state) {
    (void)context;
    *state = (void *)options; /* nothing to remember but the options, which outlive it */
    return DML_OK;
}

static enum dml_status forward_backward(void *state, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    double scale = ((const struct loss_options *)state)->scale, sum = 0;
    size_t dim = batch->dim;
    for (size_t i = 0; i < batch->n * dim; i++)
        grad[i] = 0;
    for (size_t t = 0; t < tuples->count; t++) {
        size_t at[3] = {dim * (size_t)tuples->anchors[t], dim * (size_t)tuples->positives[t],
                        dim * (size_t)tuples->negatives[t]};
        const float *a = batch->embeddings + at[0], *p = batch->embeddings + at[1];
        const float *n = batch->embeddings + at[2];
        double x = 0; /* scale (|a-p|^2 - |a-n|^2) */
        for (size_t k = 0; k < dim; k++)
            x += scale * ((a[k] - p[k]) * (a[k] - p[k]) - (a[k] - n[k]) * (a[k] - n[k]));
        sum += x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
        double slope = 2 * scale / (1 + exp(-x)) / (double)tuples->count;
        for (size_t k = 0; k < dim; k++) {
            grad[at[0] + k] += (float)(slope * (n[k] - p[k]));
            grad[at[1] + k] += (float)(slope * (p[k] - a[k]));
            grad[at[2] + k] += (float)(slope * (a[k] - n[k]));
        }
    }
    *loss = (struct dml_loss){tuples->count ? sum / (double)tuples->count : 0, tuples->count,
                              tuples->count};
    return DML_OK;
}

static const struct dml_criterion criterion = {
    .method = {"mine", "Logistic triplet loss", NULL, &loss_table},
    .takes = DML_TUPLES_TRIPLETS,
    .create = loss_create,
    .forward_backward = forward_backward,
};

/* ---- miner: a random positive, and one of the nearest negatives ---- */

struct miner_options {
    int64_t nearest;
};

static const struct dml_param miner_params[] = {
    {.name = "miner_mine_nearest",
     .type = DML_PARAM_INT,
     .offset = offsetof(struct miner_options, nearest),
     .fallback = "3",
     .min = 1,
     .max = 16,
     .help = "Draw among this many of the nearest negatives"},
};
static const struct dml_param_table miner_table =
    DML_PARAM_TABLE("Batch miner: mine", struct miner_options, miner_params);

static enum dml_status miner_create(const void *options, const struct dml_miner_context *context,
                                    void **state) {
    (void)context;
    *state = (void *)options;
    return DML_OK;
}

static double distance2(const struct dml_batch *batch, size_t i, size_t j) {
    double sum = 0;
    for (size_t k = 0; k < batch->dim; k++) {
        double x = batch->embeddings[i * batch->dim + k] - batch->embeddings[j * batch->dim + k];
        sum += x * x;
    }
    return sum;
}

/* Everything random comes from `rng`, so a run can be repeated. */
static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)swapped;
    size_t most = (size_t)((const struct miner_options *)state)->nearest;
    enum dml_status status = dml_tuples_reserve(out, DML_TUPLES_TRIPLETS, batch->n);
    for (size_t a = 0; a < batch->n && !status; a++) {
        size_t positives = 0, positive = a, found = 0, nearest[16];
        double distances[16];
        for (size_t j = 0; j < batch->n; j++) {
            if (batch->labels[j] == batch->labels[a]) {
                if (j != a && dml_rng_below(rng, ++positives) == 0)
                    positive = j;
                continue;
            }
            double d = distance2(batch, a, j);
            if (found == most && d >= distances[found - 1])
                continue;
            size_t at = found < most ? found++ : found - 1; /* insertion into a sorted list */
            for (; at > 0 && distances[at - 1] > d; at--) {
                distances[at] = distances[at - 1];
                nearest[at] = nearest[at - 1];
            }
            distances[at] = d;
            nearest[at] = j;
        }
        if (positives == 0 || found == 0)
            continue;
        out->anchors[out->count] = (int32_t)a;
        out->positives[out->count] = (int32_t)positive;
        out->negatives[out->count++] = (int32_t)nearest[dml_rng_below(rng, found)];
    }
    return status;
}

static const struct dml_miner miner = {
    .method = {"mine", "A random positive, one of the nearest negatives", NULL, &miner_table},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
};

/* ---- what the program looks for ---- */

static const struct dml_criterion *const criteria[] = {&criterion, NULL};
static const struct dml_miner *const miners[] = {&miner, NULL};

extern const struct dml_plugin dml_plugin;
const struct dml_plugin dml_plugin = {DML_PLUGIN_BUILT, .criteria = criteria, .miners = miners};
