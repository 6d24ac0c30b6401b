#include "toy/net.h"

#include "dml/rng.h"

#include <math.h>
#include <string.h>

enum { H = DML_TOY_HIDDEN };

static void fill(double *values, size_t count, size_t inputs, struct dml_rng *rng) {
    double bound = 1 / sqrt((double)inputs);
    for (size_t i = 0; i < count; i++)
        values[i] = (2 * dml_rng_uniform(rng) - 1) * bound;
}

void dml_toy_net_init(struct dml_toy_net *net, uint64_t seed) {
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_INIT, 0, 0);
    memset(net, 0, sizeof *net);
    fill(&net->weights.w1[0][0], H * 2, 2, &rng);
    fill(net->weights.b1, H, 2, &rng);
    fill(&net->weights.w2[0][0], H * H, H, &rng);
    fill(net->weights.b2, H, H, &rng);
    fill(&net->weights.w3[0][0], 2 * H, H, &rng);
    fill(net->weights.b3, 2, H, &rng);
}

void dml_toy_net_forward(struct dml_toy_net *net, const double (*points)[2], size_t n) {
    const struct dml_toy_weights *w = &net->weights;
    net->n = n;
    memcpy(net->input, points, n * sizeof *points);
    for (size_t i = 0; i < n; i++) {
        double *h1 = net->hidden1[i], *h2 = net->hidden2[i], out[2];
        for (int j = 0; j < H; j++)
            h1[j] = fmax(0, w->b1[j] + w->w1[j][0] * points[i][0] + w->w1[j][1] * points[i][1]);
        for (int j = 0; j < H; j++) {
            double sum = w->b2[j];
            for (int k = 0; k < H; k++)
                sum += w->w2[j][k] * h1[k];
            h2[j] = fmax(0, sum);
        }
        for (int j = 0; j < 2; j++) {
            out[j] = w->b3[j];
            for (int k = 0; k < H; k++)
                out[j] += w->w3[j][k] * h2[k];
        }
        net->norms[i] = fmax(hypot(out[0], out[1]), 1e-12);
        net->embeddings[i][0] = out[0] / net->norms[i];
        net->embeddings[i][1] = out[1] / net->norms[i];
    }
}

static void backward_point(struct dml_toy_net *net, size_t i, const double grad[2]) {
    const struct dml_toy_weights *w = &net->weights;
    struct dml_toy_weights *g = &net->grad;
    const double *e = net->embeddings[i], *h1 = net->hidden1[i], *h2 = net->hidden2[i];
    double d1[H] = {0}, d2[H] = {0}, out[2];
    /* e = o / |o|: dL/do = (dL/de - e <e, dL/de>) / |o| */
    double along = e[0] * grad[0] + e[1] * grad[1];
    for (int j = 0; j < 2; j++) {
        out[j] = (grad[j] - e[j] * along) / net->norms[i];
        g->b3[j] += out[j];
        for (int k = 0; k < H; k++) {
            g->w3[j][k] += out[j] * h2[k];
            d2[k] += out[j] * w->w3[j][k];
        }
    }
    for (int j = 0; j < H; j++) {
        if (h2[j] <= 0)
            continue;
        g->b2[j] += d2[j];
        for (int k = 0; k < H; k++) {
            g->w2[j][k] += d2[j] * h1[k];
            d1[k] += d2[j] * w->w2[j][k];
        }
    }
    for (int j = 0; j < H; j++) {
        if (h1[j] <= 0)
            continue;
        g->b1[j] += d1[j];
        for (int k = 0; k < 2; k++)
            g->w1[j][k] += d1[j] * net->input[i][k];
    }
}

void dml_toy_net_backward(struct dml_toy_net *net, const double (*grad)[2]) {
    memset(&net->grad, 0, sizeof net->grad);
    for (size_t i = 0; i < net->n; i++)
        backward_point(net, i, grad[i]);
}

void dml_toy_net_step(struct dml_toy_net *net, double lr) {
    double *w = &net->weights.w1[0][0], *m = &net->moment1.w1[0][0], *v = &net->moment2.w1[0][0];
    const double *g = &net->grad.w1[0][0];
    net->step++;
    double scale1 = 1 - pow(0.9, (double)net->step), scale2 = 1 - pow(0.999, (double)net->step);
    for (size_t i = 0; i < DML_TOY_WEIGHTS; i++) {
        m[i] = 0.9 * m[i] + 0.1 * g[i];
        v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
        w[i] -= lr * (m[i] / scale1) / (sqrt(v[i] / scale2) + 1e-8);
    }
}
