/* FastAP. Cakir, He, Xia, Kulis, Sclaroff 2019, "Deep metric learning to rank".
 *
 *     Histograms of u^2 = 2 - 2 c on [0, 4] with L bins, so L + 1 nodes; each value is shared
 *     between its two nodes. h+: of the positives of a query, h: of all other samples; H+ and H:
 *     their running sums.
 *     L_q = 1 - 1/|P| sum_l h+_l H+_l / H_l,  mean over the queries with a positive
 *
 * With h- and H- of the negatives that is B / |P|, B = sum_l h+_l H-_l / H_l, which stays accurate
 * near 0. With r_l = h+_l / H_l: dB/dh+_k = H-_k / H_k - sum_{l >= k} r_l H-_l / H_l and dB/dh-_k =
 * sum_{l >= k} r_l H+_l / H_l. A value that moves by x changes what its two nodes hold by x over
 * the width. */
#include "criteria/pairwise.h"

#include <omp.h>
#include <string.h>

struct options {
    int64_t num_bins;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_fastap_num_bins", DML_PARAM_INT, AT(num_bins), "10", 1, 100000,
     .help = "Bins of the histograms."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: fastap", struct options, params);

struct state {
    struct dml_pairwise_state base; /* its options point to this state */
    const struct options *options;
    double *bins; /* (threads, 2, num_bins + 1) */
    struct dml_buffer memory;
};

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    (void)context;
    enum dml_status status = dml_pairwise_new(sizeof(struct state), NULL, out);
    if (status)
        return status;
    struct state *state = *out;
    state->base.options = state;
    state->options = options;
    return DML_OK;
}

static void destroy(void *data) {
    struct state *state = data;
    if (state)
        dml_buffer_free(&state->memory);
    dml_pairwise_destroy(data);
}

/* For all cosines of a row: the lower node, and the share that the upper one gets. */
static void find_nodes(const double *c, size_t m, size_t bins, double *upper, int32_t *nodes) {
    const double width = (double)bins / 4, most = (double)bins, last = (double)(bins - 1);
#pragma omp simd
    for (size_t j = 0; j < m; j++) {
        double place = (2 - 2 * c[j]) * width;
        place = place > 0 ? place : 0;
        place = place < most ? place : most;
        int32_t node = (int32_t)(place < last ? place : last);
        nodes[j] = node;
        upper[j] = place - node;
    }
}

/* Turns h+ and h- into dB/dh+ and dB/dh-, and returns B. */
static double misranked(double *positives, double *negatives, size_t nodes) {
    double sum = 0, below_p = 0, below_n = 0;
    for (size_t l = 0; l < nodes; l++) {
        below_p += positives[l];
        below_n += negatives[l];
        double all = below_p + below_n, r = all > 0 ? positives[l] / all : 0;
        double share = all > 0 ? below_n / all : 0;
        sum += r * below_n;
        positives[l] = share;
        negatives[l] = r;
    }
    double to_p = 0, to_n = 0;
    for (size_t l = nodes; l-- > 0;) {
        to_p += negatives[l] * positives[l];
        to_n += negatives[l] * (1 - positives[l]);
        positives[l] -= to_p;
        negatives[l] = to_n;
    }
    return sum;
}

static double row(const void *data, struct dml_pairwise *p, size_t q, float *work) {
    const struct state *state = data;
    const size_t bins = (size_t)state->options->num_bins, m = p->m;
    const uint8_t *relation = p->relation + q * m;
    const double *c = p->s + q * m;
    if (p->positives[q] == 0)
        return 0;
    double *positives = state->bins + (size_t)omp_get_thread_num() * 2 * (bins + 1);
    double *negatives = positives + bins + 1, *upper = (double *)work;
    int32_t *nodes = (int32_t *)(work + 2 * m);
    memset(positives, 0, 2 * (bins + 1) * sizeof *positives);
    find_nodes(c, m, bins, upper, nodes);
    for (size_t j = 0; j < m; j++) {
        double *histogram = relation[j] == DML_POSITIVE ? positives : negatives;
        if (relation[j] == DML_UNRELATED)
            continue;
        histogram[nodes[j]] += 1 - upper[j];
        histogram[nodes[j] + 1] += upper[j];
    }
    const double count = p->positives[q], loss = misranked(positives, negatives, bins + 1) / count;
    const double scale = -(double)bins / 2 / count; /* dplace/dc */
    for (size_t j = 0; j < m; j++) {
        const double *slope = relation[j] == DML_POSITIVE ? positives : negatives;
        double rise = scale * (slope[nodes[j] + 1] - slope[nodes[j]]);
        p->g[q * m + j] = relation[j] == DML_UNRELATED ? 0 : (float)rise;
    }
    return loss;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    size_t nodes = (size_t)state->options->num_bins + 1;
    size_t size = (size_t)omp_get_max_threads() * 2 * nodes;
    state->bins = dml_buffer_reserve(&state->memory, size, sizeof *state->bins);
    if (!state->bins)
        return DML_ERROR_MEMORY;
    return dml_pairwise_step(&state->base, batch, tuples, DML_COSINES, DML_OVER_ANCHORS, row, grad,
                             loss);
}

const struct dml_criterion dml_criterion_fastap = {
    .method = {.name = "fastap",
               .summary = "Average precision from histograms of distances",
               .paper = "Cakir et al. 2019, Deep metric learning to rank",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
