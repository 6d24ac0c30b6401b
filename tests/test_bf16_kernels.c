/* The kernels and convolutions on bfloat16 tensors beside those on float32 tensors of the same
 * values. Where the processor has no bfloat16, convolutions are emulated (DML_BF16). */
#include "backends/cpu/convolution.h"
#include "backends/cpu/kernels.h"
#include "base/half.h"
#include "dml/rng.h"
#include "support/golden.h"
#include "support/networks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double bfloat16_as_double(uint32_t bits) {
    return (bits & 0x7fff) == 0x7f80 ? 0x1p128 : dml_bfloat16_value((uint16_t)bits);
}

/* Every bfloat16, and float32 between it and the next at and around the middle. */
static void rounds_to_nearest(void **state) {
    (void)state;
    static const uint32_t below[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t upper = 0; upper < 0x7f80; upper++)
        for (size_t k = 0; k < sizeof below / sizeof *below; k++) {
            uint32_t wide = upper << 16 | below[k];
            float value;
            memcpy(&value, &wide, sizeof value);
            double down = value - bfloat16_as_double(upper);
            double up = bfloat16_as_double(upper + 1) - value;
            bool takes_upper = up < down || (up == down && upper % 2);
            uint32_t right = takes_upper ? upper + 1 : upper;
            assert_int_equal(dml_bfloat16_bits(value), right);
            assert_int_equal(dml_bfloat16_bits(-value), right | 0x8000);
        }
    assert_int_equal(dml_bfloat16_bits(INFINITY), 0x7f80);
    assert_int_equal(dml_bfloat16_bits(-INFINITY), 0xff80);
    static const uint32_t nans[] = {0x7f800001, 0x7fffffff, 0xff800001, 0xffffffff, 0x7fc00000};
    for (size_t k = 0; k < sizeof nans / sizeof *nans; k++) {
        float value;
        memcpy(&value, &nans[k], sizeof value);
        assert_true(isnan(dml_bfloat16_value(dml_bfloat16_bits(value))));
    }
}

/* A tensor of both types: random values that bfloat16 holds exactly, 0 in the last group's
 * padding. */
struct pair {
    struct plan_layout wide, narrow;
    size_t n, count;
    float *f;
    uint16_t *b;
};

static struct dml_rng rng;

static struct pair pair_make(int channels, int height, int width, int block, size_t n) {
    struct pair p = {.wide = plan_layout_make(channels, height, width, block, PLAN_FLOAT32),
                     .narrow = plan_layout_make(channels, height, width, block, PLAN_BFLOAT16),
                     .n = n};
    p.count = n * p.wide.image;
    p.f = malloc(p.count * sizeof *p.f);
    p.b = malloc(p.count * sizeof *p.b);
    assert_true(p.f && p.b);
    for (size_t i = 0; i < p.count; i++) {
        size_t group = i % p.wide.image / (p.wide.pixels * (size_t)block);
        bool real = group * (size_t)block + i % (size_t)block < (size_t)channels || block == 1;
        p.b[i] = real ? dml_bfloat16_bits((float)dml_rng_normal(&rng)) : 0;
        p.f[i] = dml_bfloat16_value(p.b[i]);
    }
    return p;
}

static void pair_free(struct pair *p) {
    free(p->f);
    free(p->b);
}

static float *random_floats(size_t count, double shift) {
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(shift + 0.5 * dml_rng_normal(&rng));
    return values;
}

/* The bfloat16 results are the float32 ones, rounded: half a unit in the last of 8 bits. */
static void assert_rounded(const char *what, const struct pair *p) {
    for (size_t i = 0; i < p->count; i++) {
        double error = fabs(dml_bfloat16_value(p->b[i]) - p->f[i]);
        if (!(error <= 0x1p-8 * fabs(p->f[i]) + 1e-6))
            fail_msg("%s: element %zu is %g in bfloat16, %g in float32", what, i,
                     dml_bfloat16_value(p->b[i]), p->f[i]);
    }
}

static void assert_near(const char *what, const float *a, const float *b, size_t count,
                        double tolerance) {
    for (size_t i = 0; i < count; i++)
        if (!(fabs(a[i] - b[i]) <= tolerance * (1.0 + fabs(b[i]))))
            fail_msg("%s: element %zu is %g in bfloat16, %g in float32", what, i, a[i], b[i]);
}

static const struct cpu_kernels *wide, *narrow;
enum { N = 3, CHANNELS = 21, HEIGHT = 9, WIDTH = 13 };

static struct pair maps(int height, int width) {
    return pair_make(CHANNELS, height, width, cpu_engine_block(), N);
}

static void inputs(void **state) {
    (void)state;
    struct pair x = pair_make(3, HEIGHT, WIDTH, 1, N);
    uint8_t pixels[N * HEIGHT * WIDTH * 3];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)dml_rng_bits(&rng);
    float *values = random_floats(N * x.wide.image, 0), scale[] = {2, 0.5f, -1},
          shift[] = {0, 1, 2};
    const struct dml_input_transform transform = {{0.5f, 0.4f, 0.3f}, {0.2f, 0.3f, 0.4f}, true};
    struct dml_images images = {.n = N, .height = HEIGHT, .width = WIDTH, .pixels = pixels};
    wide->input(&images, 0, N, &transform, scale, shift, x.f);
    narrow->input(&images, 0, N, &transform, scale, shift, x.b);
    assert_rounded("pixels", &x);
    images.pixels = NULL;
    images.input = values;
    for (int affine = 0; affine < 2; affine++) {
        wide->input(&images, 1, N - 1, &transform, affine ? scale : NULL, shift, x.f);
        narrow->input(&images, 1, N - 1, &transform, affine ? scale : NULL, shift, x.b);
        assert_rounded("input", &x);
    }
    free(values);
    pair_free(&x);
}

static void combines(void **state) {
    (void)state;
    struct pair out = maps(HEIGHT, WIDTH), a = maps(HEIGHT, WIDTH), b = maps(HEIGHT, WIDTH);
    struct pair mask = maps(HEIGHT, WIDTH);
    size_t padded = (size_t)out.wide.groups * (size_t)out.wide.block;
    float *vector = random_floats(N * padded, 0);
    for (int masked = 0; masked < 2; masked++)
        for (int first = 0; first < 2; first++) {
            struct cpu_term terms[] = {{a.f, a.wide.image, false, 0},
                                       {b.f, b.wide.image, false, 0},
                                       {vector, padded, true, 0.25f}};
            wide->combine(&out.wide, N, terms + first, 3 - first, masked ? mask.f : NULL,
                          mask.wide.image, out.f);
            terms[0].data = a.b;
            terms[1].data = b.b;
            narrow->combine(&out.narrow, N, terms + first, 3 - first, masked ? mask.b : NULL,
                            mask.wide.image, out.b);
            assert_rounded("combine", &out);
        }
    /* Over one of its terms. */
    struct cpu_term terms[] = {{vector, padded, true, 0.25f}, {a.f, a.wide.image, false, 0}};
    wide->combine(&a.wide, N, terms, 2, NULL, 0, a.f);
    terms[1].data = a.b;
    narrow->combine(&a.narrow, N, terms, 2, NULL, 0, a.b);
    assert_rounded("combine in place", &a);
    free(vector);
    pair_free(&out);
    pair_free(&a);
    pair_free(&b);
    pair_free(&mask);
}

/* mean, variance (padded) as batch norms take them. */
static void statistics(const struct cpu_kernels *kernels, const struct plan_layout *layout,
                       const void *x, float *mean, float *variance) {
    size_t padded = plan_layout_channels(layout);
    double count = (double)(N * layout->pixels), sums[2 * padded];
    kernels->first_values(layout, x, mean);
    kernels->moments(layout, N, x, mean, sums, sums + padded);
    for (size_t c = 0; c < padded; c++) {
        double m = sums[c] / count;
        mean[c] = (float)(mean[c] + m);
        variance[c] = (float)(sums[padded + c] / count - m * m);
    }
}

static void affines_and_norms(void **state) {
    (void)state;
    struct pair out = maps(HEIGHT, WIDTH), x = maps(HEIGHT, WIDTH), y = maps(HEIGHT, WIDTH);
    size_t padded = (size_t)out.wide.groups * (size_t)out.wide.block;
    float *scale = random_floats(padded, 1), *shift = random_floats(padded, 0);
    float *d = random_floats(padded, 0), *mean = random_floats(padded, 0);
    for (int with = 0; with < 8; with++) {
        const float *a = with & 1 ? scale : NULL;
        wide->pointwise(&x.wide, N, x.f, a, shift, with & 2 ? y.f : NULL, with & 4, out.f);
        narrow->pointwise(&x.narrow, N, x.b, a, shift, with & 2 ? y.b : NULL, with & 4, out.b);
        assert_rounded("pointwise", &out);
    }
    wide->norm_gradient(&x.wide, N, x.f, y.f, mean, scale, shift, d, out.f);
    narrow->norm_gradient(&x.narrow, N, x.b, y.b, mean, scale, shift, d, out.b);
    assert_rounded("norm gradient", &out);
    float *right = random_floats(4 * padded, 0), *own = right + 2 * padded;
    statistics(wide, &x.wide, x.f, right, right + padded);
    statistics(narrow, &x.narrow, x.b, own, own + padded);
    assert_near("statistics", own, right, 2 * padded, 1e-6);
    double sums[2 * padded], own_sums[2 * padded];
    wide->channel_sums(&x.wide, N, x.f, y.f, mean, sums, sums + padded);
    narrow->channel_sums(&x.narrow, N, x.b, y.b, mean, own_sums, own_sums + padded);
    for (size_t i = 0; i < 2 * padded; i++)
        assert_true(fabs(sums[i] - own_sums[i]) <= 1e-5 * (1 + fabs(sums[i])));
    free(scale);
    free(shift);
    free(d);
    free(mean);
    free(right);
    pair_free(&out);
    pair_free(&x);
    pair_free(&y);
}

/* A variance a millionth of the squared mean. */
static void statistics_far_from_zero(void **state) {
    (void)state;
    struct pair x = maps(HEIGHT, WIDTH);
    size_t block = (size_t)x.wide.block, padded = (size_t)x.wide.groups * block;
    for (size_t i = 0; i < x.count; i++)
        x.f[i] = 1000 + x.f[i];
    float *mean = random_floats(2 * padded, 0), *variance = mean + padded;
    statistics(wide, &x.wide, x.f, mean, variance);
    for (size_t c = 0; c < CHANNELS; c++) {
        double sum = 0, squares = 0, count = (double)(N * x.wide.pixels);
        for (size_t i = 0; i < N * x.wide.pixels; i++) {
            const float *group =
                x.f + i / x.wide.pixels * x.wide.image + c / block * x.wide.pixels * block;
            double v = group[i % x.wide.pixels * block + c % block] - 1000.0;
            sum += v;
            squares += v * v;
        }
        assert_float_equal(mean[c], 1000 + sum / count, 1e-4);
        double right = squares / count - sum / count * (sum / count);
        assert_float_equal(variance[c], right, 1e-5 * right);
    }
    free(mean);
    pair_free(&x);
}

static const struct cpu_window windows[] = {
    {3, 3, 2, 2, 1, 1, false}, {3, 3, 1, 1, 1, 1, true},  {2, 2, 3, 3, 0, 0, false},
    {5, 3, 2, 1, 2, 1, true},  {2, 3, 2, 3, 0, 1, false}, {3, 3, 2, 2, 0, 0, true},
};

static int windows_over(int size, int kernel, int stride, int pad) { /* ceil mode */
    int count = (size + 2 * pad - kernel + stride - 1) / stride + 1;
    return (count - 1) * stride >= size + pad ? count - 1 : count;
}

/* What a pool's gradient is by definition, on float32 tensors of at most 16 channels a group. */
static void plain_gradient(const struct cpu_window *w, const struct pair *x,
                           const struct pair *grad, const uint8_t *winner,
                           const struct pair *positive, float *out) {
    const struct plan_layout *in = &x->wide, *pooled = &grad->wide;
    size_t block = (size_t)in->block;
    memset(out, 0, x->count * sizeof *out);
    for (size_t at = 0; at < grad->count; at++) {
        size_t plane = at / (pooled->pixels * block), pixel = at / block % pooled->pixels;
        int top = (int)(pixel / (size_t)pooled->width) * w->stride_h - w->pad_h;
        int left = (int)(pixel % (size_t)pooled->width) * w->stride_w - w->pad_w;
        int rows = 0, columns = 0, full_rows = 0, full_columns = 0;
        for (int k = 0; k < w->kernel_h; k++) {
            rows += top + k >= 0 && top + k < in->height;
            full_rows += top + k < in->height + w->pad_h;
        }
        for (int k = 0; k < w->kernel_w; k++) {
            columns += left + k >= 0 && left + k < in->width;
            full_columns += left + k < in->width + w->pad_w;
        }
        float share = 1.0f / (float)(w->count_padding ? full_rows * full_columns : rows * columns);
        for (int k = 0; k < w->kernel_h * w->kernel_w; k++) {
            int y = top + k / w->kernel_w, z = left + k % w->kernel_w;
            if (y < 0 || y >= in->height || z < 0 || z >= in->width)
                continue;
            float part = winner ? (winner[at] == k && positive->f[at] > 0 ? 1.0f : 0.0f) : share;
            size_t to = plane * in->pixels + (size_t)(y * in->width + z);
            out[to * block + at % block] += part * grad->f[at];
        }
    }
}

static void check_pools(const struct cpu_window *w) {
    struct pair x = maps(HEIGHT, WIDTH), grad_x = maps(HEIGHT, WIDTH);
    int height = windows_over(HEIGHT, w->kernel_h, w->stride_h, w->pad_h);
    int width = windows_over(WIDTH, w->kernel_w, w->stride_w, w->pad_w);
    struct pair y = maps(height, width), grad = maps(height, width);
    uint8_t *winner = malloc(2 * y.count);
    float *right = malloc(x.count * sizeof *right);
    assert_true(winner && right);
    wide->max_pool(w, &x.wide, &y.wide, N, x.f, y.f, winner);
    narrow->max_pool(w, &x.narrow, &y.narrow, N, x.b, y.b, winner + y.count);
    assert_rounded("max pool", &y);
    assert_memory_equal(winner, winner + y.count, y.count);
    struct cpu_term term = {grad.f, grad.wide.image, false, 0}, half = term;
    half.data = grad.b;
    wide->max_pool_gradient(w, &x.wide, &y.wide, N, &term, y.f, winner, grad_x.f);
    narrow->max_pool_gradient(w, &x.narrow, &y.narrow, N, &half, y.b, winner, grad_x.b);
    assert_rounded("max pool's gradient", &grad_x);
    plain_gradient(w, &x, &grad, winner, &y, right);
    assert_near("max pool's gradient by definition", grad_x.f, right, x.count, 1e-6);
    wide->avg_pool(w, &x.wide, &y.wide, N, x.f, y.f);
    narrow->avg_pool(w, &x.narrow, &y.narrow, N, x.b, y.b);
    assert_rounded("average pool", &y);
    wide->avg_pool_gradient(w, &x.wide, &y.wide, N, &term, grad_x.f);
    narrow->avg_pool_gradient(w, &x.narrow, &y.narrow, N, &half, grad_x.b);
    assert_rounded("average pool's gradient", &grad_x);
    plain_gradient(w, &x, &grad, NULL, NULL, right);
    assert_near("average pool's gradient by definition", grad_x.f, right, x.count, 1e-6);
    free(winner);
    free(right);
    pair_free(&x);
    pair_free(&grad_x);
    pair_free(&y);
    pair_free(&grad);
}

static void pools(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof windows / sizeof *windows; k++)
        check_pools(&windows[k]);
}

/* Where all of a window is minus infinity, one of its pixels wins and not the padding. */
static void pools_of_minus_infinity(void **state) {
    (void)state;
    const struct cpu_window w = {3, 3, 2, 2, 1, 1, false};
    struct pair x = maps(HEIGHT, WIDTH), grad_x = maps(HEIGHT, WIDTH);
    int height = windows_over(HEIGHT, 3, 2, 1), width = windows_over(WIDTH, 3, 2, 1);
    struct pair y = maps(height, width), grad = maps(height, width);
    for (size_t i = 0; i < x.count; i++)
        x.f[i] = -INFINITY;
    uint8_t *winner = malloc(y.count);
    float *right = malloc(x.count * sizeof *right);
    assert_true(winner && right);
    wide->max_pool(&w, &x.wide, &y.wide, N, x.f, y.f, winner);
    struct cpu_term term = {grad.f, grad.wide.image, false, 0};
    wide->max_pool_gradient(&w, &x.wide, &y.wide, N, &term, NULL, winner, grad_x.f);
    for (size_t i = 0; i < y.count; i++) {
        assert_true(y.f[i] == -INFINITY);
        y.f[i] = 1; /* no mask in the definition */
    }
    plain_gradient(&w, &x, &grad, winner, &y, right);
    assert_near("gradient of minus infinity", grad_x.f, right, x.count, 1e-6);
    double sent = 0, arrived = 0;
    for (size_t i = 0; i < grad.count; i++)
        sent += fabs(grad.f[i]);
    for (size_t i = 0; i < y.count; i++)
        grad.f[i] = fabsf(grad.f[i]);
    wide->max_pool_gradient(&w, &x.wide, &y.wide, N, &term, NULL, winner, grad_x.f);
    for (size_t i = 0; i < x.count; i++)
        arrived += grad_x.f[i];
    assert_true(fabs(arrived - sent) <= 1e-5 * sent);
    free(winner);
    free(right);
    pair_free(&x);
    pair_free(&grad_x);
    pair_free(&y);
    pair_free(&grad);
}

static void global_pools(void **state) {
    (void)state;
    struct pair x = maps(HEIGHT, WIDTH), grad_x = maps(HEIGHT, WIDTH);
    size_t count = N * (size_t)x.wide.groups * (size_t)x.wide.block;
    float *right = random_floats(count, 0), *own = random_floats(count, 0);
    float *grad = random_floats(count, 0);
    int32_t *winner = malloc(2 * count * sizeof *winner);
    assert_non_null(winner);
    wide->global_avg_pool(&x.wide, N, x.f, right);
    narrow->global_avg_pool(&x.narrow, N, x.b, own);
    assert_near("global average", own, right, count, 1e-6);
    wide->global_max_pool(&x.wide, N, x.f, right, winner);
    narrow->global_max_pool(&x.narrow, N, x.b, own, winner + count);
    assert_near("global maximum", own, right, count, 0);
    assert_memory_equal(winner, winner + count, count * sizeof *winner);
    wide->global_max_pool_gradient(&x.wide, N, grad, winner, grad_x.f);
    narrow->global_max_pool_gradient(&x.narrow, N, grad, winner, grad_x.b);
    assert_rounded("global maximum's gradient", &grad_x);
    float *states = random_floats(4 * count, 0);
    wide->global_gem_pool(&x.wide, N, x.f, 2.5f, right, states);
    narrow->global_gem_pool(&x.narrow, N, x.b, 2.5f, own, states + 2 * count);
    assert_near("generalised mean", own, right, count, 1e-6);
    wide->global_gem_pool_gradient(&x.wide, N, grad, x.f, 2.5f, states, grad_x.f);
    narrow->global_gem_pool_gradient(&x.narrow, N, grad, x.b, 2.5f, states, grad_x.b);
    assert_rounded("generalised mean's gradient", &grad_x);
    free(states);
    free(right);
    free(own);
    free(grad);
    free(winner);
    pair_free(&x);
    pair_free(&grad_x);
}

static void copies(void **state) {
    (void)state;
    int block = cpu_engine_block();
    struct pair x = maps(HEIGHT, WIDTH), y = pair_make(70, HEIGHT, WIDTH, block, N);
    wide->copy_channels(&x.wide, x.f, 3, &y.wide, y.f, 38, 17, N); /* across groups */
    narrow->copy_channels(&x.narrow, x.b, 3, &y.narrow, y.b, 38, 17, N);
    wide->copy_channels(&x.wide, x.f, 0, &y.wide, y.f, 2 * block, block, N); /* a whole one */
    narrow->copy_channels(&x.narrow, x.b, 0, &y.narrow, y.b, 2 * block, block, N);
    for (size_t i = 0; i < y.count; i++)
        assert_true(dml_bfloat16_value(y.b[i]) == y.f[i]);
    pair_free(&x);
    pair_free(&y);
}

/* A convolution of both types with the same weights. */
struct twin {
    struct cpu_weights *weights;
    struct cpu_conv *conv;
    void *read; /* what the convolution reads */
    float *kept;
    char *scratch;
};

static struct twin twin_make(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                             const float *plain) {
    struct twin t;
    assert_ok(cpu_weights_create(engine, shape, &t.weights));
    assert_ok(cpu_conv_create(engine, shape, t.weights, &t.conv));
    size_t count = cpu_weights_count(t.weights), bytes = cpu_weights_narrow_bytes(t.weights);
    t.kept = aligned_alloc(64, (count * sizeof *t.kept + 63) / 64 * 64);
    assert_non_null(t.kept);
    assert_ok(cpu_weights_from_plain(t.weights, plain, t.kept));
    assert_int_equal(bytes > 0, shape->input.element == PLAN_BFLOAT16);
    t.read = bytes ? aligned_alloc(64, (bytes + 63) / 64 * 64) : t.kept;
    if (bytes)
        assert_ok(cpu_weights_narrow(t.weights, t.kept, t.read));
    size_t scratch = cpu_conv_forward_scratch(t.conv);
    scratch += cpu_conv_data_scratch(t.conv) + cpu_conv_weights_scratch(t.conv);
    t.scratch = aligned_alloc(64, (scratch + 127) / 64 * 64);
    assert_true(t.read && t.scratch);
    return t;
}

static void twin_free(struct twin *t) {
    if (t->read != t->kept)
        free(t->read);
    free(t->kept);
    free(t->scratch);
    cpu_conv_destroy(t->conv);
    cpu_weights_destroy(t->weights);
}

/* Results are rounded once, so half a unit in the last place of each, and what another order of
 * summing makes of the largest. */
static void assert_convolved(const char *what, const struct pair *p) {
    double largest = 0;
    for (size_t i = 0; i < p->count; i++)
        if (fabs(p->f[i]) > largest)
            largest = fabs(p->f[i]);
    assert_true(largest > 0);
    for (size_t i = 0; i < p->count; i++) {
        double error = fabs(dml_bfloat16_value(p->b[i]) - p->f[i]);
        if (!(error <= 0x1p-8 * fabs(p->f[i]) + 1e-5 * largest))
            fail_msg("%s: element %zu is %g in bfloat16, %g in float32", what, i,
                     dml_bfloat16_value(p->b[i]), p->f[i]);
    }
}

static void check_gradients(const struct cpu_conv_shape *shape, struct twin *f, struct twin *b,
                            const struct pair *x, const struct pair *grad) {
    size_t count = (size_t)(shape->output.channels * shape->input.channels * shape->kernel_h *
                            shape->kernel_w);
    size_t stored = cpu_weights_count(f->weights);
    size_t padded = (size_t)shape->output.groups * (size_t)shape->output.block;
    float *grads = aligned_alloc(64, (2 * stored + 63) / 16 * 16 * sizeof *grads);
    float *plain = malloc(2 * count * sizeof *plain), *bias = calloc(2 * padded, sizeof *bias);
    assert_true(grads && plain && bias);
    float *narrow_grads = grads + (stored + 15) / 16 * 16;
    assert_ok(cpu_conv_backward_weights(f->conv, x->f, grad->f, grads, bias, f->scratch));
    assert_ok(
        cpu_conv_backward_weights(b->conv, x->b, grad->b, narrow_grads, bias + padded, b->scratch));
    assert_ok(cpu_weights_to_plain(f->weights, grads, plain));
    assert_ok(cpu_weights_to_plain(b->weights, narrow_grads, plain + count));
    close_to(plain + count, plain, count, 1e-5);
    close_to(bias + padded, bias, padded, 1e-5);
    if (shape->input_gradient) {
        struct pair grad_x = pair_make(shape->input.channels, shape->input.height,
                                       shape->input.width, shape->input.block, shape->n);
        assert_ok(cpu_conv_backward_data(f->conv, grad->f, f->read, grad_x.f, f->scratch));
        assert_ok(cpu_conv_backward_data(b->conv, grad->b, b->read, grad_x.b, b->scratch));
        assert_convolved("gradient of the input", &grad_x);
        pair_free(&grad_x);
    }
    free(grads);
    free(plain);
    free(bias);
}

static void check_convolution(struct cpu_engine *engine, struct cpu_conv_shape shape) {
    struct pair x = pair_make(shape.input.channels, shape.input.height, shape.input.width,
                              shape.input.block, shape.n);
    struct pair y = pair_make(shape.output.channels, shape.output.height, shape.output.width,
                              shape.output.block, shape.n);
    struct pair other = pair_make(shape.output.channels, shape.output.height, shape.output.width,
                                  shape.output.block, shape.n);
    size_t count =
        (size_t)(shape.output.channels * shape.input.channels * shape.kernel_h * shape.kernel_w);
    float *plain = random_floats(count, 0);
    float *bias = random_floats((size_t)shape.output.groups * (size_t)shape.output.block, 0);
    for (size_t i = 0; i < count; i++) /* both read the same weights */
        plain[i] = dml_bfloat16_value(dml_bfloat16_bits(plain[i]));
    shape.training = shape.bias = true;
    struct twin f = twin_make(engine, &shape, plain);
    shape.input = x.narrow;
    shape.output = y.narrow;
    struct twin b = twin_make(engine, &shape, plain);
    bool separate = shape.residual == CPU_RESIDUAL_SEPARATE;
    const float *added = separate ? other.f : NULL;
    const uint16_t *narrow_added = separate ? other.b : NULL;
    assert_ok(cpu_conv_forward(f.conv, x.f, f.read, bias, added, y.f, f.scratch));
    assert_ok(cpu_conv_forward(b.conv, x.b, b.read, bias, narrow_added, y.b, b.scratch));
    assert_convolved("output", &y);
    check_gradients(&shape, &f, &b, &x, &other);
    free(plain);
    free(bias);
    twin_free(&f);
    twin_free(&b);
    pair_free(&x);
    pair_free(&y);
    pair_free(&other);
}

static struct cpu_conv_shape shape_of(int inputs, int outputs, int size, int kernel, int stride) {
    int block = cpu_engine_block(), pad = kernel / 2;
    int windows = (size + 2 * pad - kernel) / stride + 1;
    return (struct cpu_conv_shape){
        .n = N,
        .input = plan_layout_make(inputs, size, size, inputs == 3 ? 1 : block, PLAN_FLOAT32),
        .output = plan_layout_make(outputs, windows, windows, block, PLAN_FLOAT32),
        .kernel_h = kernel,
        .kernel_w = kernel,
        .stride_h = stride,
        .stride_w = stride,
        .pad_h = pad,
        .pad_w = pad,
        .input_gradient = inputs != 3};
}

static void convolutions(void **state) {
    (void)state;
    need_bf16();
    struct cpu_engine *engine;
    assert_ok(cpu_engine_create(&engine));
    for (int kind = CPU_RESIDUAL_NONE; kind <= CPU_RESIDUAL_SEPARATE; kind++) {
        struct cpu_conv_shape shape = shape_of(32, 48, 12, 3, 1);
        shape.residual = (enum cpu_residual)kind;
        shape.relu = kind != CPU_RESIDUAL_NONE;
        check_convolution(engine, shape);
    }
    check_convolution(engine, shape_of(3, 16, 20, 7, 2));   /* the first of a network */
    check_convolution(engine, shape_of(32, 64, 9, 1, 2));   /* down-sampling */
    check_convolution(engine, shape_of(29, 37, 6, 3, 2));   /* channels that fill no group */
    check_convolution(engine, shape_of(64, 128, 2, 3, 1));  /* few pixels: one product a tap */
    check_convolution(engine, shape_of(128, 512, 1, 3, 1)); /* none but the middle tap counts */
    cpu_engine_destroy(engine);
}

int main(void) {
    wide = cpu_kernels_float32();
    narrow = cpu_kernels_bfloat16();
    rng = dml_rng_make(7, DML_PURPOSE_OTHER, 0, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_to_nearest),
        cmocka_unit_test(inputs),
        cmocka_unit_test(combines),
        cmocka_unit_test(affines_and_norms),
        cmocka_unit_test(statistics_far_from_zero),
        cmocka_unit_test(pools),
        cmocka_unit_test(pools_of_minus_infinity),
        cmocka_unit_test(global_pools),
        cmocka_unit_test(copies),
        cmocka_unit_test(convolutions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
