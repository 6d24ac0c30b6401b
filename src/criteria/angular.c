/* Angular loss. Wang, Zhou, Wen, Liu, Lin 2017, "Deep metric learning with angular loss".
 *
 *     u_i = e_i / ||e_i||,  c_ij = <u_i, u_j>,  s_ij = <e_i, e_j>,  t = tan(alpha)
 *     f_n = 4 t^2 (c_an + c_pn) - 2 (1 + t^2) c_ap
 *     angular = mean_a log(1 + sum_n exp f_n)
 *     npair   = mean_a log(1 + sum_n exp clamp(s_an - s_ap, -50, 50))
 *     L = npair + weight angular + l2 mean_i ||e_i||,  n: all samples of other classes
 *
 * Both terms have dL/dx_n = exp(x_n - L_a), 0 where clamped. Gradients with respect to c are folded
 * into those with respect to s: c_ij = s_ij / (||e_i|| ||e_j||), so dL/dc_ij = v adds v / (||e_i||
 * ||e_j||) to dL/ds_ij and -v c_ij e_i / ||e_i||^2 to dL/de_i, and the same with i and j swapped to
 * dL/de_j. A pair without negatives costs nothing; when no pair has any, the loss is 0. */
#include "criteria/exponentials.h"
#include "criteria/similarities.h"

#include "base/memory.h"
#include "math/linear.h"
#include "math/reduce.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double alpha, weight, l2;
};

static const struct dml_param params[] = {
    {.name = "loss_angular_alpha",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, alpha),
     .fallback = "45",
     .max = 89,
     .above_min = true,
     .help = "Upper bound of the angle at the negative, in degrees."},
    {.name = "loss_angular_npair_ang_weight",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, weight),
     .fallback = "2",
     .max = INFINITY,
     .help = "Weight of the angular term relative to the N-pair term."},
    {.name = "loss_angular_npair_l2",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, l2),
     .fallback = "0.005",
     .max = INFINITY,
     .help = "Weight of the mean norm of the embeddings."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: angular", struct options, params);

static const double CLAMP = 50;

struct state {
    struct options options;
    double tan2; /* tan(alpha)^2 */
    struct dml_similarities similarities;
    struct dml_symmetric symmetric;
    struct dml_buffer memory;
};

/* One step on similarities. */
struct step {
    const struct options *options;
    const int32_t *labels;
    double tan2, share; /* share: 1 / pairs */
    double *inverse;    /* (n): 1 / ||e_i||, 0 for a zero embedding */
    double *along;      /* (n): component of dL/du_i along u_i */
    double *losses;     /* (pairs) */
    double *scales;     /* (pairs): of slopes */
    float *slopes;      /* (pairs, n): d angular / df of each sample, up to a pair's scale */
    float *h;           /* (n, n): the angular term's part of dL/ds, besides g */
};

static void destroy(void *data) {
    struct state *state = data;
    if (!state)
        return;
    dml_similarities_free(&state->similarities);
    dml_symmetric_free(&state->symmetric);
    dml_buffer_free(&state->memory);
    free(state);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    (void)context;
    struct state *state = dml_alloc(1, sizeof *state);
    if (!state)
        return DML_ERROR_MEMORY;
    state->options = *(const struct options *)options;
    double tangent = tan(state->options.alpha * acos(-1) / 180);
    state->tan2 = tangent * tangent;
    *out = state;
    return DML_OK;
}

static enum dml_status start(struct state *state, const struct dml_batch *batch, size_t pairs,
                             struct step *step) {
    size_t n = batch->n;
    step->options = &state->options;
    step->labels = batch->labels;
    step->tan2 = state->tan2;
    step->share = 1 / (double)pairs;
    step->inverse = dml_buffer_reserve(&state->memory, 2 * (2 * n + 2 * pairs) + (n + pairs) * n,
                                       sizeof *step->slopes);
    if (!step->inverse)
        return DML_ERROR_MEMORY;
    step->along = step->inverse + n;
    step->losses = step->along + n;
    step->scales = step->losses + pairs;
    step->h = (float *)(step->scales + pairs);
    step->slopes = step->h + n * n;
    memset(step->h, 0, n * n * sizeof *step->h);
    double shortest = INFINITY;
    for (size_t i = 0; i < n; i++) {
        const float *x = batch->embeddings + i * batch->dim;
        double norm = sqrt(dml_dot(x, x, batch->dim));
        step->inverse[i] = norm < 1e-12 ? 0 : 1 / norm;
        shortest = norm < 1e-12 ? shortest : fmin(shortest, norm);
    }
    double slope = fmax(1, 4 * step->tan2 / (shortest * shortest));
    return dml_similarities_forward(&state->similarities, batch, slope, pairs);
}

/* The N-pair term of one pair; adds its gradient to g. `row`: products of a. */
static double npair_term(struct dml_similarities *s, const struct step *step, size_t a, size_t p,
                         const double *row) {
    double *x = dml_similarities_work(s), positive = row[p];
    float *g = s->g + a * s->n, *e = (float *)(x + s->n);
    int clamped = 0;
    for (size_t j = 0; j < s->n; j++) {
        double above = row[j] - positive, raised = above < -CLAMP ? -CLAMP : above;
        x[j] = raised > CLAMP ? CLAMP : raised;
        clamped |= x[j] != above;
    }
    struct dml_softplus terms = dml_softplus_negatives(step->labels, step->labels[a], s->n, x, e);
    const float share = (float)(step->share * terms.scale);
    double sum = step->share * terms.sum;
    if (clamped) {
        for (size_t j = 0; j < s->n; j++)
            e[j] = fabs(row[j] - positive) > CLAMP ? 0 : e[j];
        sum = share * dml_sum(e, s->n);
    }
#pragma omp simd
    for (size_t j = 0; j < s->n; j++)
        g[j] += share * e[j];
    g[p] -= (float)sum;
    return terms.value;
}

/* The angular term of pair t; fills in its slopes and the part through c_ap. `row_a`: products of
 * a. */
static double angular_term(struct dml_similarities *s, const struct step *step, size_t t, size_t a,
                           size_t p, const double *row_a) {
    double *x = dml_similarities_work(s);
    const double *row_p = dml_inner_products_row(&s->products, p, x + 3 * s->n);
    const double *inverse = step->inverse;
    const double inverse_a = inverse[a], inverse_p = inverse[p];
    double c_ap = row_a[p] * inverse_a * inverse_p;
    double outer = 4 * step->tan2, inner = 2 * (1 + step->tan2);
#pragma omp simd
    for (size_t j = 0; j < s->n; j++)
        x[j] = outer * inverse[j] * (row_a[j] * inverse_a + row_p[j] * inverse_p) - inner * c_ap;
    struct dml_softplus terms =
        dml_softplus_negatives(step->labels, step->labels[a], s->n, x, step->slopes + t * s->n);
    step->scales[t] = terms.scale;
    step->h[a * s->n + p] -=
        (float)(step->share * step->options->weight * inner * terms.sum * inverse_a * inverse_p);
    return terms.value;
}

/* Adds to row i of h what the pairs listed for it contribute. */
static void add_slopes(struct dml_similarities *s, const struct step *step, size_t i) {
    float *h = step->h + i * s->n;
    const double *inverse = step->inverse;
    for (uint32_t t = s->first[i]; t != DML_NO_TUPLE; t = s->next[t]) {
        const float *e = step->slopes + t * s->n;
        const double factor =
            step->share * step->options->weight * 4 * step->tan2 * inverse[i] * step->scales[t];
#pragma omp simd
        for (size_t j = 0; j < s->n; j++)
            h[j] += (float)(factor * inverse[j]) * e[j];
    }
}

/* dL/dE. The component of dL/du_i along u_i is sum_j h_ij s_ij, h being symmetric. */
static void backward(struct dml_similarities *s, const struct step *step,
                     const struct dml_batch *batch, float *grad) {
    size_t n = s->n, dim = s->dim;
    dml_fold(step->h, n);
    dml_fold(s->g, n);
#pragma omp parallel for if (n > 200)
    for (size_t i = 0; i < n; i++) {
        const float *h = step->h + i * n;
        const double *row = dml_inner_products_row(&s->products, i, dml_similarities_work(s));
        float *g = s->g + i * n;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < n; j++) {
            sum += h[j] * row[j];
            g[j] += h[j];
        }
        step->along[i] = sum * step->inverse[i] * step->inverse[i];
    }
    dml_similarities_product(s, false, grad);
    for (size_t i = 0; i < n; i++) {
        const float along = (float)step->along[i];
        for (size_t k = i * dim; k < (i + 1) * dim; k++)
            grad[k] -= along * batch->embeddings[k];
    }
}

static enum dml_status by_similarities(struct state *state, const struct dml_batch *batch,
                                       const struct dml_tuples *tuples, float *grad,
                                       struct dml_loss *loss) {
    struct dml_similarities *s = &state->similarities;
    struct step step;
    size_t n = batch->n;
    enum dml_status status = start(state, batch, tuples->count, &step);
    if (status)
        return status;
    dml_similarities_group(s, tuples->anchors, tuples->count);
    double sum = 0;
    size_t active = 0;
#pragma omp parallel for schedule(dynamic, 8) reduction(+ : active) if (n > 32)
    for (size_t a = 0; a < n; a++) {
        if (s->first[a] == DML_NO_TUPLE)
            continue;
        double *work = dml_similarities_work(s) + 2 * n;
        const double *row = dml_inner_products_row(&s->products, a, work);
        for (uint32_t t = s->first[a]; t != DML_NO_TUPLE; t = s->next[t]) {
            size_t p = (size_t)tuples->positives[t];
            double npair = npair_term(s, &step, a, p, row);
            double angular = angular_term(s, &step, t, a, p, row);
            step.losses[t] = npair + state->options.weight * angular;
            active += npair > 0 || angular > 0;
        }
        add_slopes(s, &step, a);
    }
    for (size_t t = 0; t < tuples->count; t++)
        sum += step.losses[t];
    loss->active = active;
    loss->value = sum * step.share;
    if (active == 0)
        return DML_OK;
    dml_similarities_group(s, tuples->positives, tuples->count);
#pragma omp parallel for schedule(dynamic, 8) if (n > 32)
    for (size_t p = 0; p < n; p++)
        add_slopes(s, &step, p);
    backward(s, &step, batch, grad);
    return DML_OK;
}

/* What row `sample` of dL/dc has from the pairs of it with `partner`: the partner's row of e times
 * the row itself and the sum of the pairs' rates. */
struct link {
    uint32_t sample, partner;
    float rate;
};

/* A step on symmetric matrices: with k_ij = exp s_ij and e_ij = exp(4 t^2 c_ij), the sums over
 * negatives of a pair are S_a = sum_n k_an and A_t = sum_n e_an e_pn, so that
 *
 *     L = log(1 + S_a / k_ap) + weight log(1 + A_t exp(-2 (1 + t^2) c_ap)).
 *
 * A negative's slope in c_an is e_an e_pn times a rate of the pair, which is in row a of e times a
 * row of another sample; in c_na it is found in row a too, e being symmetric. */
struct rows {
    const struct dml_symmetric *symmetric;
    const struct options *options;
    const struct dml_tuples *tuples;
    const int32_t *labels;
    double outer, inner;      /* 4 t^2, 2 (1 + t^2) */
    double middle;            /* s is relative to it in k, */
    float *offsets, *inverse; /* (n) and more: see dml_symmetric_offsets; 1 / ||e_i||, 0 for zero */
    size_t ld;                /* distance between rows of the matrices */
    float *c, *e, *k;         /* (n, n) */
    double *losses;           /* (pairs) */
    float *pulls, *c_pulls;   /* (pairs): -dL/ds_ap and -dL/dc_ap, times the pairs */
    float *pair_rates;        /* (pairs): of A_t */
    float *rates;             /* (n): the sum of 1 / (k_ap + S_a) over the pairs of a */
    double *along;            /* (n): component of dL/du_i along u_i, over ||e_i||^2 */
    uint32_t *partners;    /* (n): of a sample's first link; its own index with rate 0 for none */
    float *partner_rates;  /* (n): of that link */
    struct link *others;   /* (2 pairs): the others, those of sample i from first_other[i] on */
    uint32_t *first_other; /* (n + 1) */
    uint32_t *of_anchor, *next_of_anchor, *of_positive, *next_of_positive; /* lists of pairs */
};

/* Floats of a cache line. Rows that are a power of two apart would lie in the same few places of a
 * cache: they are a line farther apart. */
enum { LINE = 16 };

static bool lay_out(struct state *state, const struct dml_batch *batch,
                    const struct dml_tuples *tuples, struct rows *r) {
    const size_t n = batch->n, pairs = tuples->count, wide = n + DML_PANEL;
    *r = (struct rows){.symmetric = &state->symmetric,
                       .options = &state->options,
                       .tuples = tuples,
                       .labels = batch->labels,
                       .outer = 4 * state->tan2,
                       .inner = 2 * (1 + state->tan2)};
    const size_t of_n = 2 + 1 + 2 + 1 + 2, of_pairs = 2 + 6 + 3 + 2;
    r->ld = (n + LINE - 1) / LINE * LINE + LINE;
    r->c = dml_buffer_reserve(
        &state->memory, 3 * n * r->ld + of_n * n + of_pairs * pairs + 2 * wide + 1, sizeof *r->c);
    if (!r->c)
        return false;
    r->e = r->c + n * r->ld;
    r->k = r->e + n * r->ld;
    r->losses = (double *)(r->k + n * r->ld);
    r->along = r->losses + pairs;
    r->offsets = (float *)(r->along + n);
    r->inverse = r->offsets + wide;
    r->pulls = r->inverse + wide;
    r->c_pulls = r->pulls + pairs;
    r->pair_rates = r->c_pulls + pairs;
    r->rates = r->pair_rates + pairs;
    r->partner_rates = r->rates + n;
    r->partners = (uint32_t *)(r->partner_rates + n);
    r->others = (struct link *)(r->partners + n);
    r->first_other = (uint32_t *)(r->others + 2 * pairs);
    r->of_anchor = r->first_other + n + 1;
    r->of_positive = r->of_anchor + n;
    r->next_of_anchor = r->of_positive + n;
    r->next_of_positive = r->next_of_anchor + pairs;
    return true;
}

/* A block of products becomes one of c, and those of e and k. */
static void finish(const void *data, size_t row, size_t rows, size_t column, float *blocks) {
    const struct rows *r = data;
    const float *offsets = r->offsets + column, *inverse = r->inverse + column;
    const float middle = (float)r->middle, outer = (float)r->outer;
    for (size_t i = row; i < row + rows; i++, blocks += DML_PANEL) {
        const float own_offset = r->offsets[i], own_inverse = r->inverse[i];
        float *c = blocks, *e = c + DML_GRAM_BLOCK, *k = e + DML_GRAM_BLOCK;
#pragma omp simd
        for (size_t j = 0; j < DML_PANEL; j++) {
            const float s = c[j] + (own_offset + offsets[j]);
            const float cosine = (s + middle) * (own_inverse * inverse[j]);
            c[j] = cosine;
            e[j] = dml_expf_normal(outer * cosine);
            k[j] = dml_expf_normal(s);
        }
    }
}

/* sum_j x_j y_j over the samples of other labels. */
static double sum_negatives(const float *x, const float *y, const int32_t *labels, int32_t label,
                            size_t n) {
    dml_lanes sums[2] = {{0}, {0}};
    size_t j = 0;
    for (; j + 2 * DML_LANES <= n; j += 2 * DML_LANES)
        for (size_t v = j; v < j + 2 * DML_LANES; v += DML_LANES) {
            const dml_lanes product = dml_lanes_load(x + v) * dml_lanes_load(y + v);
            const dml_lane_bits differ = dml_lane_bits_load(labels + v) != label;
            sums[(v - j) / DML_LANES] += (dml_lanes)((dml_lane_bits)product & differ);
        }
    double sum = dml_lanes_total(sums[0] + sums[1]);
    for (; j < n; j++)
        sum += labels[j] != label ? x[j] * y[j] : 0;
    return sum;
}

/* The losses and slopes of the pairs of a. */
static void anchor(const struct rows *r, size_t a) {
    const size_t n = r->symmetric->n;
    const float *k = r->k + a * r->ld, *e = r->e + a * r->ld;
    const int32_t *labels = r->labels, label = labels[a];
    const double weight = r->options->weight;
    double rate = 0, sum = 0;
    uint32_t t = r->of_anchor[a];
    if (t != DML_NO_TUPLE)
        sum = dml_sum_by_label(k, labels, label, n).others;
    for (; t != DML_NO_TUPLE; t = r->next_of_anchor[t]) {
        const size_t p = (size_t)r->tuples->positives[t];
        const double positive = k[p], share = 1 / (positive + sum);
        const double products = sum_negatives(e, r->e + p * r->ld, labels, label, n);
        const double raised = exp(r->inner * r->c[a * r->ld + p]),
                     pair_rate = 1 / (raised + products);
        r->losses[t] = log1p(sum / positive) + weight * log1p(products / raised);
        r->pulls[t] = (float)(sum * share);
        r->c_pulls[t] = (float)(weight * r->inner * products * pair_rate);
        r->pair_rates[t] = (float)(weight * r->outer * pair_rate);
        rate += share;
    }
    r->rates[a] = (float)rate;
}

/* Adds pair t to the links of sample i, which has `count` of them in `others`. Returns how many it
 * then has. */
static size_t add_link(const struct rows *r, size_t i, struct link *others, size_t count,
                       size_t partner, float rate) {
    if (r->partner_rates[i] == 0 || r->partners[i] == partner) {
        r->partners[i] = (uint32_t)partner;
        r->partner_rates[i] += rate;
        return count;
    }
    for (size_t l = 0; l < count; l++)
        if (others[l].partner == partner) {
            others[l].rate += rate;
            return count;
        }
    others[count] = (struct link){(uint32_t)i, (uint32_t)partner, rate};
    return count + 1;
}

static void make_links(const struct rows *r) {
    const int32_t *anchors = r->tuples->anchors, *positives = r->tuples->positives;
    size_t made = 0;
    for (size_t i = 0; i < r->symmetric->n; i++) {
        struct link *others = r->others + made;
        size_t count = 0;
        r->partners[i] = (uint32_t)i;
        r->partner_rates[i] = 0;
        for (uint32_t t = r->of_anchor[i]; t != DML_NO_TUPLE; t = r->next_of_anchor[t])
            count = add_link(r, i, others, count, (size_t)positives[t], r->pair_rates[t]);
        for (uint32_t t = r->of_positive[i]; t != DML_NO_TUPLE; t = r->next_of_positive[t])
            count = add_link(r, i, others, count, (size_t)anchors[t], r->pair_rates[t]);
        r->first_other[i] = (uint32_t)made;
        made += count;
    }
    r->first_other[r->symmetric->n] = (uint32_t)made;
}

/* By what row i of e is multiplied in dL/dc + (dL/dc)^T: for each column, of its links and of i's.
 */
static void sum_links(const struct rows *r, size_t i, float *sums) {
    const size_t n = r->symmetric->n;
    const float *own = r->e + i * r->ld, *partner = r->e + r->partners[i] * r->ld;
    const float *rates = r->partner_rates, rate = rates[i];
    for (size_t j = 0; j < n; j++)
        sums[j] = rates[j] * own[r->partners[j]] + rate * partner[j];
    for (size_t l = 0; l < r->first_other[n]; l++)
        sums[r->others[l].sample] += r->others[l].rate * own[r->others[l].partner];
    for (size_t l = r->first_other[i]; l < r->first_other[i + 1]; l++) {
        const float *e = r->e + r->others[l].partner * r->ld, other = r->others[l].rate;
#pragma omp simd
        for (size_t j = 0; j < n; j++)
            sums[j] += other * e[j];
    }
}

/* Adds the pull of pair t on samples i and j to row i. */
static void pull(const struct rows *r, size_t t, size_t i, size_t j, float *f, double *along) {
    f[j] -= r->pulls[t] + r->c_pulls[t] * (r->inverse[i] * r->inverse[j]);
    *along -= r->c_pulls[t] * r->c[i * r->ld + j];
}

/* Row i of dL/ds + (dL/ds)^T, times the pairs. */
static void fill(const void *data, size_t i, float *f) {
    const struct rows *r = data;
    const size_t n = r->symmetric->n;
    const float *k = r->k + i * r->ld, *e = r->e + i * r->ld, *c = r->c + i * r->ld;
    const float *rates = r->rates, *inverse = r->inverse, own = rates[i], own_inverse = inverse[i];
    const int32_t *labels = r->labels, label = labels[i];
    float sum = 0;
    sum_links(r, i, f);
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < n; j++) {
        const float slope = e[j] * f[j];
        const float value = slope * (own_inverse * inverse[j]) + k[j] * (own + rates[j]);
        sum += labels[j] != label ? slope * c[j] : 0.0f;
        f[j] = labels[j] != label ? value : 0.0f;
    }
    double along = sum;
    for (uint32_t t = r->of_anchor[i]; t != DML_NO_TUPLE; t = r->next_of_anchor[t])
        pull(r, t, i, (size_t)r->tuples->positives[t], f, &along);
    for (uint32_t t = r->of_positive[i]; t != DML_NO_TUPLE; t = r->next_of_positive[t])
        pull(r, t, i, (size_t)r->tuples->anchors[t], f, &along);
    r->along[i] = along * own_inverse * own_inverse;
}

static void by_rows(struct rows *r, const struct dml_batch *batch, float *grad,
                    struct dml_loss *loss) {
    const size_t n = batch->n, dim = batch->dim, pairs = r->tuples->count;
    const double share = 1 / (double)pairs;
    float *outs[] = {r->c, r->e, r->k};
    dml_symmetric_forward(r->symmetric, finish, r, outs, 3, r->ld);
    dml_group_tuples(r->tuples->anchors, pairs, n, r->of_anchor, r->next_of_anchor);
    dml_group_tuples(r->tuples->positives, pairs, n, r->of_positive, r->next_of_positive);
#pragma omp parallel for schedule(dynamic, 8) if (n > 128)
    for (size_t a = 0; a < n; a++)
        anchor(r, a);
    for (size_t t = 0; t < pairs; t++) {
        loss->value += r->losses[t] * share;
        loss->active += r->losses[t] > 0;
    }
    if (loss->active == 0)
        return;
    make_links(r);
    dml_symmetric_backward(r->symmetric, fill, r, share, grad);
    for (size_t i = 0; i < n; i++) {
        const float along = (float)(share * r->along[i]);
#pragma omp simd
        for (size_t k = i * dim; k < (i + 1) * dim; k++)
            grad[k] -= along * batch->embeddings[k];
    }
}

/* Whether exponents are small enough, once rows are centred. Fills in what depends on norms. */
static bool fits(struct rows *r, const struct dml_batch *batch) {
    double shortest = INFINITY;
    memset(r->inverse + batch->n, 0, DML_PANEL * sizeof *r->inverse);
    for (size_t i = 0; i < batch->n; i++) {
        const float *x = batch->embeddings + i * batch->dim;
        const double norm = sqrt(dml_dot(x, x, batch->dim));
        r->inverse[i] = norm < 1e-12 ? 0 : (float)(1 / norm);
        shortest = norm < 1e-12 ? shortest : fmin(shortest, norm);
    }
    const double most = dml_symmetric_offsets(r->symmetric, 1, r->offsets, &r->middle);
    const double spread = r->symmetric->rows.spread;
    return r->outer <= DML_EXPONENT_MOST && spread + 2 * most <= DML_EXPONENT_MOST &&
           fmax(1, r->outer / (shortest * shortest)) * spread <= DML_NARROW_MOST;
}

/* Whether all pairs are two samples of one class. */
static bool within_classes(const struct dml_tuples *tuples, const int32_t *labels) {
    for (size_t t = 0; t < tuples->count; t++) {
        const int32_t a = tuples->anchors[t], p = tuples->positives[t];
        if (a == p || labels[a] != labels[p])
            return false;
    }
    return true;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    struct rows rows;
    dml_loss_none(batch, tuples->count, grad, loss);
    enum dml_status status = DML_OK;
    bool by_similarity = !within_classes(tuples, batch->labels);
    if (!by_similarity) {
        status = lay_out(state, batch, tuples, &rows)
                     ? dml_symmetric_start(&state->symmetric, batch, false)
                     : DML_ERROR_MEMORY;
        by_similarity = !status && !fits(&rows, batch);
        if (!status && !by_similarity)
            by_rows(&rows, batch, grad, loss);
    }
    if (by_similarity)
        status = by_similarities(state, batch, tuples, grad, loss);
    if (status || loss->active == 0)
        return status;
    loss->value += dml_norm_penalty(batch, state->options.l2, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_angular = {
    .method = {.name = "angular",
               .summary = "Bounds the angle at the negative, alongside an N-pair term",
               .paper = "Wang et al. 2017, Deep metric learning with angular loss",
               .params = &table},
    .takes = DML_TUPLES_PAIRS,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
