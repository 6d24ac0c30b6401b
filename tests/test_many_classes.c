/* So many classes that the criteria with class weights keep no matrix of samples and classes: loss
 * and gradients against sums in float64. */
#include "dml/dml.h"

#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Just above 2^26 pairs of sample and class. */
enum { N = 600, CLASSES = 112000, DIM = 4, LOOKED_AT = 40 };

static float x[N * DIM], grad[N * DIM];
static double units[CLASSES][DIM], sums[N], norms[CLASSES];
static int32_t labels[N];

static void fill(void) {
    struct dml_rng rng = dml_rng_make(3, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < N * DIM; i++)
        x[i] = (float)dml_rng_normal(&rng);
    for (size_t i = 0; i < N; i++)
        labels[i] = (int32_t)(i / 2 * 373 % CLASSES);
}

static double cosine(size_t i, size_t c, double length) {
    double sum = 0;
    for (size_t k = 0; k < DIM; k++)
        sum += x[i * DIM + k] * units[c][k];
    return sum / length;
}

static double length(size_t i) {
    double sum = 0;
    for (size_t k = 0; k < DIM; k++)
        sum += (double)x[i * DIM + k] * x[i * DIM + k];
    return sqrt(sum);
}

/* logits: scale <x, u> with x as given, or at length 1 less the margin for the own class. */
static void softmax_of(const char *criterion, const char *flags, double scale, double margin,
                       bool unit) {
    struct dml_criterion_context context = {.dim = DIM, .classes = CLASSES, .lr = 1e-5};
    struct dml_objective *objective;
    struct dml_criterion_parameter w;
    assert_ok(dml_objective_open(criterion, flags, &context, &objective));
    assert_int_equal(dml_objective_parameters(objective, &w, 1), 1);
    for (size_t c = 0; c < CLASSES; c++) {
        norms[c] = 0;
        for (size_t k = 0; k < DIM; k++)
            norms[c] += (double)w.values[c * DIM + k] * w.values[c * DIM + k];
        norms[c] = sqrt(norms[c]);
        for (size_t k = 0; k < DIM; k++)
            units[c][k] = w.values[c * DIM + k] / norms[c];
    }
    double loss = 0;
    for (size_t i = 0; i < N; i++) {
        double of_x = unit ? length(i) : 1, own = 0, most = scale * (unit ? 1 : length(i));
        sums[i] = 0;
        for (size_t c = 0; c < CLASSES; c++) {
            double z = scale * (cosine(i, c, of_x) - (c == (size_t)labels[i] ? margin : 0));
            own = c == (size_t)labels[i] ? z : own;
            sums[i] += exp(z - most);
        }
        sums[i] = log(sums[i]) + most;
        loss += (sums[i] - own) / N;
    }
    struct dml_batch batch = {.n = N, .dim = DIM, .embeddings = x, .labels = labels};
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    struct dml_loss got;
    assert_ok(dml_objective_compute(objective, &batch, NULL, &rng, grad, &got));
    assert_true(fabs(got.value - loss) < 1e-5 * loss);

    /* dL/dw of some classes, own ones among them, and dL/dx of some samples. */
    double worst = 0, largest = 0;
    for (size_t t = 0; t < LOOKED_AT; t++) {
        size_t c = t % 2 ? (size_t)labels[t * 13] : t * 2801;
        double g[DIM] = {0}, along = 0;
        for (size_t i = 0; i < N; i++) {
            double of_x = unit ? length(i) : 1, own = c == (size_t)labels[i];
            double z = scale * (cosine(i, c, of_x) - own * margin);
            for (size_t k = 0; k < DIM; k++)
                g[k] += scale * (exp(z - sums[i]) - own) / N * x[i * DIM + k] / of_x;
        }
        for (size_t k = 0; k < DIM; k++)
            along += g[k] * units[c][k];
        for (size_t k = 0; k < DIM; k++) {
            double wanted = (g[k] - along * units[c][k]) / norms[c];
            largest = fmax(largest, fabs(wanted));
            worst = fmax(worst, fabs(wanted - w.grad[c * DIM + k]));
        }
    }
    assert_true(worst < 1e-5 * largest);
    worst = largest = 0;
    for (size_t i = 0; i < N; i += N / 10) {
        double of_x = unit ? length(i) : 1, g[DIM] = {0}, along = 0;
        for (size_t c = 0; c < CLASSES; c++) {
            double own = c == (size_t)labels[i];
            double z = scale * (cosine(i, c, of_x) - own * margin);
            for (size_t k = 0; k < DIM; k++)
                g[k] += scale * (exp(z - sums[i]) - own) / N * units[c][k];
        }
        for (size_t k = 0; k < DIM && unit; k++)
            along += g[k] * x[i * DIM + k] / of_x;
        for (size_t k = 0; k < DIM; k++) {
            double wanted = (g[k] - along * x[i * DIM + k] / of_x) / of_x;
            largest = fmax(largest, fabs(wanted));
            worst = fmax(worst, fabs(wanted - grad[i * DIM + k]));
        }
    }
    assert_true(worst < 1e-5 * largest);
    dml_objective_free(objective);
}

static void softmax(void **state) {
    (void)state;
    softmax_of("softmax", "--loss_softmax_temperature 0.5", 2, 0, false);
}

/* Logits so far apart that the largest of each sample must be found first. */
static void cold(void **state) {
    (void)state;
    softmax_of("softmax", "--loss_softmax_temperature 0.02", 50, 0, false);
}

static void margin(void **state) {
    (void)state;
    softmax_of("cosface", "--loss_cosface_scale 30 --loss_cosface_margin 0.25", 30, 0.25, true);
}

/* Proxy anchor goes over its proxies by blocks of 8,192, since each has a loss of its own: here two
 * whole ones and a part, with samples of all three. */
enum { PROXIES = 2 * 8192 + 611, FEW = 24 };

static const double alpha = 8, delta = 0.1;

/* The loss of proxy c, and its slopes by its cosines into g (FEW). */
static double anchor(size_t c, size_t present, double *g) {
    double near = 0, far = 0, to[FEW];
    for (size_t i = 0; i < FEW; i++) {
        bool own = (size_t)labels[i] == c;
        double s = cosine(i, c, length(i));
        to[i] = own ? exp(-alpha * (s - delta)) : exp(alpha * (s + delta));
        near += own ? to[i] : 0;
        far += own ? 0 : to[i];
    }
    for (size_t i = 0; i < FEW; i++)
        g[i] = (size_t)labels[i] == c ? -alpha * to[i] / (1 + near) / (double)present
                                      : alpha * to[i] / (1 + far) / PROXIES;
    return log1p(near) / (double)present + log1p(far) / PROXIES;
}

/* What of g is across unit u, over its vector's length; the largest difference to `got`. */
static double difference(const double *g, const double *u, double norm, const float *got,
                         double *largest) {
    double along = 0, worst = 0;
    for (size_t k = 0; k < DIM; k++)
        along += g[k] * u[k];
    for (size_t k = 0; k < DIM; k++) {
        double wanted = (g[k] - along * u[k]) / norm;
        *largest = fmax(*largest, fabs(wanted));
        worst = fmax(worst, fabs(wanted - got[k]));
    }
    return worst;
}

static void proxies_in_blocks(void **state) {
    (void)state;
    static double by_proxy[PROXIES][FEW], wanted[FEW][DIM];
    struct dml_criterion_context context = {.dim = DIM, .classes = PROXIES, .lr = 1e-5};
    struct dml_objective *objective;
    struct dml_criterion_parameter w;
    assert_ok(
        dml_objective_open("proxyanchor", "--loss_proxyanchor_alpha 8", &context, &objective));
    assert_int_equal(dml_objective_parameters(objective, &w, 1), 1);
    for (size_t i = 0; i < FEW; i++) /* 8 classes of 3, the last one of each block among them */
        labels[i] = (int32_t[]){0, 8191, 8192, 12000, 16383, 16384, 16500, PROXIES - 1}[i / 3];
    double loss = 0, worst = 0, largest = 0;
    for (size_t c = 0; c < PROXIES; c++) {
        double square = 0;
        for (size_t k = 0; k < DIM; k++)
            square += (double)w.values[c * DIM + k] * w.values[c * DIM + k];
        norms[c] = sqrt(square);
        for (size_t k = 0; k < DIM; k++)
            units[c][k] = w.values[c * DIM + k] / norms[c];
        loss += anchor(c, FEW / 3, by_proxy[c]);
        for (size_t i = 0; i < FEW; i++)
            for (size_t k = 0; k < DIM; k++)
                wanted[i][k] += by_proxy[c][i] * units[c][k];
    }
    struct dml_batch batch = {.n = FEW, .dim = DIM, .embeddings = x, .labels = labels};
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    struct dml_loss got;
    assert_ok(dml_objective_compute(objective, &batch, NULL, &rng, grad, &got));
    assert_true(fabs(got.value - loss) < 1e-5 * loss);
    for (size_t c = 0; c < PROXIES; c++) {
        double g[DIM] = {0};
        for (size_t i = 0; i < FEW; i++)
            for (size_t k = 0; k < DIM; k++)
                g[k] += by_proxy[c][i] * x[i * DIM + k] / length(i);
        worst = fmax(worst, difference(g, units[c], norms[c], w.grad + c * DIM, &largest));
    }
    assert_true(worst < 1e-5 * largest);
    worst = largest = 0;
    for (size_t i = 0; i < FEW; i++) {
        double u[DIM];
        for (size_t k = 0; k < DIM; k++)
            u[k] = x[i * DIM + k] / length(i);
        worst = fmax(worst, difference(wanted[i], u, length(i), grad + i * DIM, &largest));
    }
    assert_true(worst < 1e-5 * largest);
    dml_objective_free(objective);
}

int main(void) {
    fill();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax),
        cmocka_unit_test(cold),
        cmocka_unit_test(margin),
        cmocka_unit_test(proxies_in_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
