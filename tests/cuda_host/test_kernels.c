#include "backends/cpu/kernels.h"
#include "base/half.h"
#include "cuda_host/device_host.h"
#include "math/descent.h"
#include "support/golden.h"

#include "dml/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The kernels of cards, compiled for the host, against those of the CPU backend: at sizes around
 * the edges of warps and blocks, in three orders of threads. */

enum { ORDERS = 3 }; /* enum shim_order */
void shim_set_order(int order);
size_t shim_launches(void);

static const struct cuda_kernels *card(void) {
    return dml_cuda_kernels();
}

struct size {
    size_t n;
    int height, width, channels;
};
static const struct size sizes[] = {{1, 1, 1, 1},  {2, 3, 5, 3},   {3, 7, 6, 31},  {2, 8, 8, 32},
                                    {1, 9, 5, 33}, {2, 4, 4, 255}, {1, 5, 3, 256}, {3, 2, 3, 257}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static size_t values_of(const struct size *s) {
    return s->n * (size_t)s->height * (size_t)s->width * (size_t)s->channels;
}
static size_t pixels_of(const struct size *s) {
    return (size_t)s->height * (size_t)s->width;
}
static struct plan_layout plain(const struct size *s) {
    return plan_layout_make(s->channels, s->height, s->width, 1, PLAN_FLOAT32);
}

static float *random_values(size_t count, uint64_t key) {
    struct dml_rng rng = dml_rng_make(7, DML_PURPOSE_OTHER, key, count);
    float *values = malloc((count ? count : 1) * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)dml_rng_normal(&rng);
    return values;
}
static float *empty(size_t count) {
    float *values = malloc((count ? count : 1) * sizeof *values);
    assert_non_null(values);
    memset(values, 0xff, count * sizeof *values);
    return values;
}

/* (n, c, pixels) to (n, pixels, c), of `bytes` bytes each; and back. */
static void *turned(const void *from, const struct size *s, size_t bytes, bool back) {
    size_t pixels = pixels_of(s), channels = (size_t)s->channels;
    char *to = malloc(values_of(s) * bytes);
    assert_non_null(to);
    for (size_t i = 0; i < s->n; i++)
        for (size_t c = 0; c < channels; c++)
            for (size_t p = 0; p < pixels; p++) {
                size_t a = (i * channels + c) * pixels + p, b = (i * pixels + p) * channels + c;
                memcpy(to + (back ? a : b) * bytes, (const char *)from + (back ? b : a) * bytes,
                       bytes);
            }
    return to;
}
static float *last(const float *x, const struct size *s) { /* channels last */
    return turned(x, s, sizeof *x, false);
}

static void equal(const float *got, const float *expected, size_t count, double tolerance) {
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)got[i] - expected[i]) <= tolerance * (1 + fabs(expected[i]))))
            fail_msg("value %zu of %zu is %.9g, expected %.9g", i, count, got[i], expected[i]);
}
/* `got` lies channels last, `expected` plainly. */
static void equal_maps(const float *got, const float *expected, const struct size *s,
                       double tolerance) {
    float *turn = turned(got, s, sizeof *got, true);
    equal(turn, expected, values_of(s), tolerance);
    free(turn);
}

static void each(void (*check)(const struct size *size)) {
    for (int order = 0; order < ORDERS; order++) {
        shim_set_order(order);
        for (size_t k = 0; k < SIZES; k++)
            check(&sizes[k]);
    }
    shim_set_order(0);
}

static void check_input(const struct size *s) {
    enum { STRIDE = 8 };
    const struct dml_input_transform transform = {{0.4f, 0.5f, 0.6f}, {0.2f, 0.3f, 0.4f}, true};
    const float scale[3] = {2, 0.5f, 1}, shift[3] = {0.1f, -1, 3};
    size_t pixels = pixels_of(s), count = s->n * pixels;
    uint8_t *bytes = malloc(count * 3);
    float *floats = random_values(count * 3, 1), *right = empty(count * 3);
    float *got = empty(count * STRIDE), table[3 * 256];
    struct dml_rect *rects = calloc(s->n, sizeof *rects);
    int *erased = calloc(s->n * 4, sizeof *erased);
    assert_true(bytes && rects && erased);
    for (size_t i = 0; i < count * 3; i++)
        bytes[i] = (uint8_t)(i * 37 % 256);
    rects[0] = (struct dml_rect){0, 0, s->width, (s->height + 1) / 2};
    const int first[4] = {rects[0].left, rects[0].top, rects[0].width, rects[0].height};
    memcpy(erased, first, sizeof first);
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) {
            float value = ((float)v / 255.0f - transform.mean[2 - c]) / transform.std[2 - c];
            table[c * 256 + v] = value * scale[c] + shift[c];
        }
    for (int kind = 0; kind < 2; kind++) {
        struct dml_images images = {.n = s->n, .height = s->height, .width = s->width};
        struct cuda_input in = {.table = table,
                                .source = {2, 1, 0},
                                .erased = erased,
                                .scale = {scale[0], scale[1], scale[2]},
                                .shift = {shift[0], shift[1], shift[2]},
                                .n = s->n,
                                .height = (size_t)s->height,
                                .width = (size_t)s->width,
                                .stride = STRIDE};
        images.erased = rects;
        images.pixels = kind ? NULL : bytes;
        images.input = kind ? floats : NULL;
        in.pixels = images.pixels;
        in.floats = images.input;
        cpu_kernels_float32()->input(&images, 0, s->n, &transform, scale, shift, right);
        card()->input(NULL, &in, got);
        for (size_t i = 0; i < s->n; i++)
            for (size_t p = 0; p < pixels; p++)
                for (size_t c = 0; c < STRIDE; c++) {
                    float value = c < 3 ? right[(i * 3 + c) * pixels + p] : 0;
                    equal(&got[(i * pixels + p) * STRIDE + c], &value, 1, 1e-6);
                }
    }
    free(bytes);
    free(floats);
    free(right);
    free(got);
    free(rects);
    free(erased);
}
static void input(void **state) {
    (void)state;
    each(check_input);
}

static void check_pointwise(const struct size *s) {
    struct plan_layout layout = plain(s);
    size_t count = values_of(s), channels = (size_t)s->channels;
    struct cuda_rows rows = {s->n * pixels_of(s), channels, channels, false};
    float *x = random_values(count, 1), *r = random_values(count, 2), *right = empty(count);
    float *scale = random_values(channels, 3), *shift = random_values(channels, 4);
    float *x2 = last(x, s), *r2 = last(r, s), *got = empty(count);
    for (int kind = 0; kind < 8; kind++) {
        bool affine = kind & 1, residual = kind & 2, relu = kind & 4;
        cpu_kernels_float32()->pointwise(&layout, s->n, x, affine ? scale : NULL,
                                         affine ? shift : NULL, residual ? r : NULL, relu, right);
        card()->affine(NULL, rows, x2, affine ? scale : NULL, affine ? shift : NULL,
                       residual ? r2 : NULL, relu, got);
        equal_maps(got, right, s, 1e-6);
    }
    free(x);
    free(r);
    free(right);
    free(scale);
    free(shift);
    free(x2);
    free(r2);
    free(got);
}
static void pointwise(void **state) {
    (void)state;
    each(check_pointwise);
}

/* A whole tensor, a view into a wider one, and a vector for all pixels; masked. */
static void check_combine(const struct size *s) {
    struct plan_layout layout = plain(s);
    size_t count = values_of(s), channels = (size_t)s->channels, pixels = pixels_of(s);
    size_t wide = channels + 5;
    float *a = random_values(count, 1), *b = random_values(count, 2),
          *mask = random_values(count, 3);
    float *vector = random_values(s->n * channels, 4), *right = empty(count), *got = empty(count);
    float *a2 = last(a, s), *b2 = last(b, s), *mask2 = last(mask, s);
    float *view = empty(s->n * pixels * wide);
    for (size_t r = 0; r < s->n * pixels; r++)
        memcpy(view + r * wide + 2, b2 + r * channels, channels * sizeof *view);
    const struct cpu_term terms[3] = {
        {a, layout.image, false, 0}, {b, layout.image, false, 0}, {vector, channels, true, 0.25f}};
    const struct cuda_terms others = {{{a2, pixels * channels, channels, 0, false, false},
                                       {view + 2, pixels * wide, wide, 0, false, false},
                                       {vector, channels, 0, 0.25f, true, false}},
                                      3};
    const struct cuda_term gate = {mask2, pixels * channels, channels, 0, false, false};
    for (int kind = 0; kind < 2; kind++) {
        cpu_kernels_float32()->combine(&layout, s->n, terms, 3, kind ? mask : NULL, layout.image,
                                       right);
        card()->combine(NULL, s->n, pixels, channels, &others, kind ? &gate : NULL, false, got);
        equal_maps(got, right, s, 1e-6);
    }
    float *const all[] = {a, b, mask, vector, right, got, a2, b2, mask2, view};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}
static void combine(void **state) {
    (void)state;
    each(check_combine);
}

static void check_statistics(const struct size *s) {
    struct plan_layout layout = plain(s);
    size_t count = values_of(s), channels = (size_t)s->channels;
    struct cuda_rows rows = {s->n * pixels_of(s), channels, channels, false};
    float *x = random_values(count, 1), *g = random_values(count, 2);
    for (size_t i = 0; i < count; i++)
        x[i] += 30; /* far from 0: a difference of large sums would show */
    float *x2 = last(x, s), *g2 = last(g, s), *mean = empty(channels), *variance = empty(channels);
    float *statistics = empty(4 * channels), *weight = random_values(channels, 3);
    float *bias = random_values(channels, 4), *running = calloc(2 * channels, sizeof *running);
    double *partial = malloc(cuda_sums_scratch(channels) * sizeof *partial);
    double *sums = malloc(2 * channels * sizeof *sums),
           *right = malloc(2 * channels * sizeof *right);
    assert_true(running && partial && sums && right);
    const struct cuda_norm norm = {channels, channels,           weight, bias,
                                   running,  running + channels, 1e-5};
    cpu_kernels_float32()->first_values(&layout, x, mean);
    cpu_kernels_float32()->moments(&layout, s->n, x, mean, right, right + channels);
    for (size_t c = 0; c < channels; c++) {
        double m = right[c] / (double)rows.count;
        mean[c] = (float)(mean[c] + m);
        variance[c] = (float)(right[channels + c] / (double)rows.count - m * m);
    }
    card()->sums(NULL, &(struct cuda_sums){CUDA_SUM, rows, x2, NULL, NULL}, partial, sums);
    card()->norm_mean(NULL, channels, sums, (double)rows.count, statistics);
    card()->sums(NULL, &(struct cuda_sums){CUDA_SUM_SQUARES, rows, x2, NULL, statistics}, partial,
                 sums);
    card()->norm_variance(NULL, &norm, sums, (double)rows.count, 0.5f, statistics);
    equal(statistics, mean, channels, 1e-6);
    equal(statistics + channels, variance, channels, 1e-5);
    double unbias = rows.count > 1 ? (double)rows.count / ((double)rows.count - 1) : 1;
    for (size_t c = 0; c < channels; c++) {
        float half = mean[c] / 2, spread = (float)(variance[c] / 2 * unbias);
        equal(&running[c], &half, 1, 1e-6);
        equal(&running[channels + c], &spread, 1, 1e-5);
        double factor = weight[c] / sqrt(variance[c] + 1e-5);
        float scale = (float)factor, shift = (float)(bias[c] - mean[c] * factor);
        equal(&statistics[2 * channels + c], &scale, 1, 1e-4);
        equal(&statistics[3 * channels + c], &shift, 1, 1e-4);
    }
    cpu_kernels_float32()->channel_sums(&layout, s->n, g, x, mean, right, right + channels);
    card()->sums(NULL, &(struct cuda_sums){CUDA_SUM_PRODUCT, rows, g2, x2, mean}, partial, sums);
    for (size_t c = 0; c < 2 * channels; c++)
        assert_true(fabs(sums[c] - right[c]) <= 1e-5 * (1 + fabs(right[c])));
    float *const all[] = {x, g, x2, g2, mean, variance, statistics, weight, bias, running};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(partial);
    free(sums);
    free(right);
}
static void statistics(void **state) {
    (void)state;
    each(check_statistics);
}

/* Sums over more rows than blocks take at once. */
static void sums_of_many_rows(void **state) {
    (void)state;
    static const size_t counts[] = {31, 32, 33, 8191, 8192, 8193, 20000};
    enum { WIDTH = 33 };
    double *partial = malloc(cuda_sums_scratch(WIDTH) * sizeof *partial), sums[2 * WIDTH];
    assert_non_null(partial);
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        float *x = random_values(counts[k] * WIDTH, k);
        const struct cuda_rows rows = {counts[k], WIDTH, WIDTH, false};
        card()->sums(NULL, &(struct cuda_sums){CUDA_SUM, rows, x, NULL, NULL}, partial, sums);
        for (size_t c = 0; c < WIDTH; c++) {
            double right = 0;
            for (size_t r = 0; r < counts[k]; r++)
                right += x[r * WIDTH + c];
            assert_true(fabs(sums[c] - right) <= 1e-9 * (double)counts[k]);
        }
        free(x);
    }
    free(partial);
}

static void check_pools(const struct size *s) {
    static const struct cpu_window windows[] = {
        {3, 3, 2, 2, 1, 1, false}, {2, 3, 1, 2, 0, 1, true}, {1, 1, 1, 1, 0, 0, false}};
    struct plan_layout in = plain(s);
    size_t count = values_of(s);
    float *x = random_values(count, 1), *x2 = last(x, s), *back = empty(count),
          *back2 = empty(count);
    for (size_t k = 0; k < 3; k++) {
        const struct cpu_window *w = &windows[k];
        struct size o = *s;
        o.height = (s->height + 2 * w->pad_h - w->kernel_h) / w->stride_h + 1;
        o.width = (s->width + 2 * w->pad_w - w->kernel_w) / w->stride_w + 1;
        if (s->height + 2 * w->pad_h < w->kernel_h || s->width + 2 * w->pad_w < w->kernel_w)
            continue;
        struct plan_layout out = plain(&o);
        size_t made = values_of(&o), channels = (size_t)o.channels, pixels = pixels_of(&o);
        const struct cuda_window window = {w->kernel_h, w->kernel_w, w->stride_h,      w->stride_w,
                                           w->pad_h,    w->pad_w,    w->count_padding, s->height,
                                           s->width,    o.height,    o.width,          s->channels,
                                           s->n,        false};
        float *y = empty(made), *y2 = empty(made), *g = random_values(made, 2), *g2 = last(g, &o);
        uint8_t *won = malloc(made), *won2 = malloc(made);
        assert_true(won && won2);
        const struct cpu_term term = {g, out.image, false, 0};
        const struct cuda_term term2 = {g2, pixels * channels, channels, 0, false, false};
        cpu_kernels_float32()->max_pool(w, &in, &out, s->n, x, y, won);
        card()->max_pool(NULL, &window, x2, y2, won2);
        equal_maps(y2, y, &o, 0);
        uint8_t *turn = turned(won2, &o, 1, true);
        assert_memory_equal(turn, won, made);
        for (int positive = 0; positive < 2; positive++) {
            const struct cuda_term gate = {y2, pixels * channels, channels, 0, false, false};
            cpu_kernels_float32()->max_pool_gradient(w, &in, &out, s->n, &term, positive ? y : NULL,
                                                     won, back);
            card()->max_pool_gradient(NULL, &window, &term2, positive ? &gate : NULL, won2, back2);
            equal_maps(back2, back, s, 1e-6);
        }
        cpu_kernels_float32()->avg_pool(w, &in, &out, s->n, x, y);
        card()->avg_pool(NULL, &window, x2, y2);
        equal_maps(y2, y, &o, 1e-6);
        cpu_kernels_float32()->avg_pool_gradient(w, &in, &out, s->n, &term, back);
        card()->avg_pool_gradient(NULL, &window, &term2, back2);
        equal_maps(back2, back, s, 1e-6);
        float *const all[] = {y, y2, g, g2};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            free(all[i]);
        free(won);
        free(won2);
        free(turn);
    }
    free(x);
    free(x2);
    free(back);
    free(back2);
}
static void pools(void **state) {
    (void)state;
    each(check_pools);
}

static void check_global_pools(const struct size *s) {
    struct plan_layout in = plain(s);
    size_t count = values_of(s), channels = (size_t)s->channels, vectors = s->n * channels;
    size_t pixels = pixels_of(s);
    const struct cpu_kernels *cpu = cpu_kernels_float32();
    const struct cuda_pool pool = {s->n, pixels, channels, false};
    float *x = random_values(count, 1), *x2 = last(x, s), *y = empty(vectors), *y2 = empty(vectors);
    float *g = random_values(vectors, 2), *back = empty(count), *back2 = empty(count), p = 3.5f;
    float *kept = empty(2 * vectors), *kept2 = empty(2 * vectors);
    int32_t *won = malloc(vectors * sizeof *won), *won2 = malloc(vectors * sizeof *won2);
    assert_true(won && won2);
    cpu->global_avg_pool(&in, s->n, x, y);
    card()->global_avg(NULL, &pool, x2, y2);
    equal(y2, y, vectors, 1e-6);
    cpu->global_max_pool(&in, s->n, x, y, won);
    card()->global_max(NULL, &pool, x2, y2, won2);
    equal(y2, y, vectors, 0);
    assert_memory_equal(won, won2, vectors * sizeof *won);
    cpu->global_max_pool_gradient(&in, s->n, g, won, back);
    card()->global_max_gradient(NULL, &pool, g, won2, back2);
    equal_maps(back2, back, s, 0);
    cpu->global_gem_pool(&in, s->n, x, p, y, kept);
    card()->global_gem(NULL, &pool, x2, &p, y2, kept2);
    equal(y2, y, vectors, 1e-5);
    equal(kept2, kept, 2 * vectors, 1e-5);
    cpu->global_gem_pool_gradient(&in, s->n, g, x, p, kept, back);
    card()->global_gem_gradient(NULL, &pool, g, x2, &p, kept2, back2);
    equal_maps(back2, back, s, 1e-4);
    double sum, right = 0;
    card()->gem_power(NULL, vectors, g, &p, kept2, &sum);
    for (size_t k = 0; k < vectors; k++) {
        double log_y = (double)kept2[k] / p;
        right += g[k] * exp(log_y) * (kept2[vectors + k] - log_y) / p;
    }
    assert_true(fabs(sum - right) <= 1e-9 * (1 + fabs(right)));
    float *const all[] = {x, x2, y, y2, g, back, back2, kept, kept2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(won);
    free(won2);
}
static void global_pools(void **state) {
    (void)state;
    each(check_global_pools);
}

static void check_rows(const struct size *s) {
    size_t count = s->n * pixels_of(s), width = (size_t)s->channels;
    struct cuda_rows rows = {count, width, width, false};
    float *x = random_values(count * width, 1), *g = random_values(count * width, 2);
    float *y = empty(count * width), *y2 = empty(count * width), *norms = empty(count);
    float *norms2 = empty(count), *back = empty(count * width), *back2 = empty(count * width);
    memset(x, 0, width * sizeof *x); /* a row of zeros */
    cpu_l2_normalize(count, width, width, x, y, norms);
    card()->l2_normalize(NULL, rows, x, y2, norms2);
    equal(y2, y, count * width, 1e-6);
    equal(norms2, norms, count, 1e-6);
    cpu_l2_normalize_gradient(count, width, width, g, y, norms, back);
    card()->l2_normalize_gradient(NULL, rows, g, y, norms, back2);
    equal(back2, back, count * width, 1e-5);
    float *const all[] = {x, g, y, y2, norms, norms2, back, back2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}
static void rows(void **state) {
    (void)state;
    each(check_rows);
}

/* Lengths around the edges of blocks, and beyond what a grid takes at once. */
static const size_t lengths[] = {1, 31, 32, 33, 255, 256, 257, 131071, 131072, 131073};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static void gradients_are_measured(void **state) {
    (void)state;
    double *partial = malloc(2 * CUDA_MEASURE_PARTS * sizeof *partial);
    assert_non_null(partial);
    for (size_t k = 0; k < LENGTHS; k++) {
        size_t n = lengths[k];
        float *g = random_values(n, k), *clipped = random_values(n, k);
        float *average = random_values(n, 50 + k), *right = random_values(n, 50 + k);
        double measured[2] = {0, 0}, squares = 0, largest = 0;
        dml_gradient_measure(g, n, &squares, &largest);
        card()->measure(NULL, n, g, partial, measured);
        assert_true(fabs(measured[0] - squares) <= 1e-12 * squares);
        assert_true(measured[1] == largest);
        dml_gradient_clip(g, n, 0.5, 0.75);
        card()->clip(NULL, n, 0.5f, 0.75f, clipped);
        assert_memory_equal(g, clipped, n * sizeof *g);
        dml_moving_average(right, g, n, 0.9);
        card()->average(NULL, n, (float)(1.0 - 0.9), g, average);
        equal(average, right, n, 1e-7);
        free(g);
        free(clipped);
        free(average);
        free(right);
    }
    free(partial);
}

/* Weights of an output each, folded and back. */
static void folding(void **state) {
    (void)state;
    static const size_t inners[] = {1, 31, 255, 256, 257, 600};
    enum { OUTPUTS = 5 };
    for (size_t k = 0; k < sizeof inners / sizeof *inners; k++) {
        size_t inner = inners[k], count = OUTPUTS * inner;
        float *w = random_values(count, 1), *e = random_values(count, 2), *got = empty(count);
        float *grads = random_values(count, 3), *old = random_values(count, 3);
        float *scale = random_values(OUTPUTS, 4);
        double dots[OUTPUTS];
        card()->scale_outputs(NULL, OUTPUTS, inner, w, scale, got);
        for (size_t i = 0; i < count; i++)
            assert_true(got[i] == w[i] * scale[i / inner]);
        card()->unfold(NULL, OUTPUTS, inner, false, e, w, scale, grads, dots);
        for (size_t o = 0; o < OUTPUTS; o++) {
            double dot = 0;
            for (size_t i = o * inner; i < (o + 1) * inner; i++) {
                assert_true(grads[i] == e[i] * scale[o]);
                dot += (double)e[i] * w[i];
            }
            assert_true(fabs(dots[o] - dot) <= 1e-9 * (double)inner);
        }
        card()->unfold(NULL, OUTPUTS, inner, false, e, w, NULL, grads, NULL);
        assert_memory_equal(grads, e, count * sizeof *e);
        card()->add(NULL, count, old, grads);
        for (size_t i = 0; i < count; i++)
            assert_true(grads[i] == e[i] + old[i]);
        float *const all[] = {w, e, got, grads, old, scale};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            free(all[i]);
    }
}

/* To the nearest bfloat16, of two equally near ones the even; NaN and infinity stay. */
static void narrowing(void **state) {
    (void)state;
    enum { COUNT = 3000 };
    float *values = random_values(COUNT, 9);
    const uint32_t special[] = {0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff,
                                0x7f7fffff, 0x7f800000, 0xff800000, 0x7f800001,
                                0x7fc00000, 0x80000000, 0x00000001, 0x80008000};
    memcpy(values, special, sizeof special);
    uint16_t narrow[COUNT], copied[COUNT];
    card()->narrow(NULL, COUNT, values, narrow);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(narrow[i], dml_bfloat16_bits(values[i]));
    const struct cuda_rows rows = {COUNT, 1, 1, true};
    card()->copy(NULL, rows, narrow, copied, 1);
    assert_memory_equal(copied, narrow, sizeof narrow);
    free(values);
}

/* None of the tests above ran on nothing. */
static void kernels_ran(void **state) {
    (void)state;
    assert_true(shim_launches() > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(input),
        cmocka_unit_test(pointwise),
        cmocka_unit_test(combine),
        cmocka_unit_test(statistics),
        cmocka_unit_test(sums_of_many_rows),
        cmocka_unit_test(pools),
        cmocka_unit_test(global_pools),
        cmocka_unit_test(rows),
        cmocka_unit_test(gradients_are_measured),
        cmocka_unit_test(folding),
        cmocka_unit_test(narrowing),
        cmocka_unit_test(kernels_ran),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
