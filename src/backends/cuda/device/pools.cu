/* Pools. One thread per value; in the backward pass it collects, in the order of the windows, what
 * the windows over its pixel contribute. */
#include "backends/cuda/device/launch.h"

/* The pixel and channel of a thread's value in a map of height x width. */
struct place {
    size_t i, c;
    int y, x;
};
static __device__ bool find_place(size_t n, int height, int width, int channels,
                                  struct place *out) {
    size_t at = thread_number(), s, x;
    size_t pixels = (size_t)height * (size_t)width;
    if (at >= n * pixels * (size_t)channels)
        return false;
    out->i = row_of(row_of(at, (size_t)channels, &out->c), pixels, &s);
    out->y = (int)row_of(s, (size_t)width, &x);
    out->x = (int)x;
    return true;
}

/* The part of a window that lies inside the input. */
struct span {
    int start, first, end;
};
static __device__ struct span span_of(int o, int stride, int pad, int kernel, int size) {
    struct span span;
    span.start = o * stride - pad;
    span.first = span.start > 0 ? span.start : 0;
    span.end = span.start + kernel < size ? span.start + kernel : size;
    return span;
}

/* The windows that cover position `at` of the input: first..end-1 of `count`. */
static __device__ struct span windows_over(int at, int stride, int pad, int kernel, int count) {
    struct span span;
    int low = at + pad - kernel + 1;
    span.start = 0;
    span.first = low <= 0 ? 0 : (low + stride - 1) / stride;
    span.end = (at + pad) / stride + 1 < count ? (at + pad) / stride + 1 : count;
    return span;
}

static __device__ size_t pixel_of(const struct cuda_window *w, size_t i, int y, int x) {
    return ((i * (size_t)w->in_h + (size_t)y) * (size_t)w->in_w + (size_t)x) * (size_t)w->channels;
}
static __device__ size_t output_of(const struct cuda_window *w, size_t i, int y, int x) {
    return ((i * (size_t)w->out_h + (size_t)y) * (size_t)w->out_w + (size_t)x) *
           (size_t)w->channels;
}
/* NaN wins, and stays. */
static __global__ void max_pool_kernel(struct cuda_window w, const void *x, void *y,
                                       uint8_t *winner) {
    struct place p;
    if (!find_place(w.n, w.out_h, w.out_w, w.channels, &p))
        return;
    struct span rows = span_of(p.y, w.stride_h, w.pad_h, w.kernel_h, w.in_h);
    struct span columns = span_of(p.x, w.stride_w, w.pad_w, w.kernel_w, w.in_w);
    float best = -INFINITY;
    int where = (rows.first - rows.start) * w.kernel_w + columns.first - columns.start;
    for (int iy = rows.first; iy < rows.end; iy++)
        for (int ix = columns.first; ix < columns.end; ix++) {
            float value = value_of(x, pixel_of(&w, p.i, iy, ix) + p.c, w.narrow);
            if (value > best || value != value) {
                best = value;
                where = (iy - rows.start) * w.kernel_w + ix - columns.start;
            }
        }
    size_t at = output_of(&w, p.i, p.y, p.x) + p.c;
    store_value(y, at, w.narrow, best);
    if (winner)
        winner[at] = (uint8_t)where;
}
static void max_pool(cuda_stream s, const struct cuda_window *w, const void *x, void *y,
                     uint8_t *winner) {
    size_t count = w->n * (size_t)w->out_h * (size_t)w->out_w * (size_t)w->channels;
    LAUNCH(max_pool_kernel, blocks_for(count, THREADS), THREADS, s, *w, x, y, winner);
}

static __global__ void max_pool_gradient_kernel(struct cuda_window w, struct cuda_term grad,
                                                struct cuda_term positive, const uint8_t *winner,
                                                void *out) {
    struct place p;
    if (!find_place(w.n, w.in_h, w.in_w, w.channels, &p))
        return;
    struct span rows = windows_over(p.y, w.stride_h, w.pad_h, w.kernel_h, w.out_h);
    struct span columns = windows_over(p.x, w.stride_w, w.pad_w, w.kernel_w, w.out_w);
    float sum = 0;
    for (int oy = rows.first; oy < rows.end; oy++)
        for (int ox = columns.first; ox < columns.end; ox++) {
            int y = p.y - (oy * w.stride_h - w.pad_h), x = p.x - (ox * w.stride_w - w.pad_w);
            size_t s = (size_t)oy * (size_t)w.out_w + (size_t)ox;
            if (winner[output_of(&w, p.i, oy, ox) + p.c] != y * w.kernel_w + x)
                continue;
            if (!positive.data || term_value(&positive, p.i, s, p.c) > 0.0f)
                sum += term_value(&grad, p.i, s, p.c);
        }
    store_value(out, pixel_of(&w, p.i, p.y, p.x) + p.c, w.narrow, sum);
}
static void max_pool_gradient(cuda_stream s, const struct cuda_window *w,
                              const struct cuda_term *grad, const struct cuda_term *positive,
                              const uint8_t *winner, void *out) {
    struct cuda_term none = {NULL, 0, 0, 0, false, false};
    size_t count = w->n * (size_t)w->in_h * (size_t)w->in_w * (size_t)w->channels;
    LAUNCH(max_pool_gradient_kernel, blocks_for(count, THREADS), THREADS, s, *w, *grad,
           positive ? *positive : none, winner, out);
}

/* The reciprocal of what a window's sum is divided by: with count_padding, its pixels inside the
 * padded image. */
static __device__ float window_share(const struct cuda_window *w, struct span y, struct span x) {
    int rows = y.end - y.first, columns = x.end - x.first;
    if (w->count_padding) {
        int bottom = w->in_h + w->pad_h, right = w->in_w + w->pad_w;
        rows = (y.start + w->kernel_h < bottom ? y.start + w->kernel_h : bottom) - y.start;
        columns = (x.start + w->kernel_w < right ? x.start + w->kernel_w : right) - x.start;
    }
    return 1.0f / (float)(rows * columns);
}

static __global__ void avg_pool_kernel(struct cuda_window w, const void *x, void *y) {
    struct place p;
    if (!find_place(w.n, w.out_h, w.out_w, w.channels, &p))
        return;
    struct span rows = span_of(p.y, w.stride_h, w.pad_h, w.kernel_h, w.in_h);
    struct span columns = span_of(p.x, w.stride_w, w.pad_w, w.kernel_w, w.in_w);
    float sum = 0;
    for (int iy = rows.first; iy < rows.end; iy++)
        for (int ix = columns.first; ix < columns.end; ix++)
            sum += value_of(x, pixel_of(&w, p.i, iy, ix) + p.c, w.narrow);
    sum *= window_share(&w, rows, columns);
    store_value(y, output_of(&w, p.i, p.y, p.x) + p.c, w.narrow, sum);
}
static void avg_pool(cuda_stream s, const struct cuda_window *w, const void *x, void *y) {
    size_t count = w->n * (size_t)w->out_h * (size_t)w->out_w * (size_t)w->channels;
    LAUNCH(avg_pool_kernel, blocks_for(count, THREADS), THREADS, s, *w, x, y);
}

static __global__ void avg_pool_gradient_kernel(struct cuda_window w, struct cuda_term grad,
                                                void *out) {
    struct place p;
    if (!find_place(w.n, w.in_h, w.in_w, w.channels, &p))
        return;
    struct span over_y = windows_over(p.y, w.stride_h, w.pad_h, w.kernel_h, w.out_h);
    struct span over_x = windows_over(p.x, w.stride_w, w.pad_w, w.kernel_w, w.out_w);
    float sum = 0;
    for (int oy = over_y.first; oy < over_y.end; oy++)
        for (int ox = over_x.first; ox < over_x.end; ox++) {
            struct span rows = span_of(oy, w.stride_h, w.pad_h, w.kernel_h, w.in_h);
            struct span columns = span_of(ox, w.stride_w, w.pad_w, w.kernel_w, w.in_w);
            size_t s = (size_t)oy * (size_t)w.out_w + (size_t)ox;
            sum += term_value(&grad, p.i, s, p.c) * window_share(&w, rows, columns);
        }
    store_value(out, pixel_of(&w, p.i, p.y, p.x) + p.c, w.narrow, sum);
}
static void avg_pool_gradient(cuda_stream s, const struct cuda_window *w,
                              const struct cuda_term *grad, void *out) {
    size_t count = w->n * (size_t)w->in_h * (size_t)w->in_w * (size_t)w->channels;
    LAUNCH(avg_pool_gradient_kernel, blocks_for(count, THREADS), THREADS, s, *w, *grad, out);
}

/* Global pools: a thread walks the pixels of one channel of one image. */
static __device__ size_t first_pixel(const struct cuda_pool *w, size_t at) {
    size_t c, i = row_of(at, w->channels, &c);
    return i * w->pixels * w->channels + c;
}
/* Pixel s of the channel that begins at `first`. */
static __device__ float pixel_value(const struct cuda_pool *w, const void *x, size_t first,
                                    size_t s) {
    return value_of(x, first + s * w->channels, w->narrow);
}

static __global__ void global_avg_kernel(struct cuda_pool w, const void *x, float *y) {
    size_t at = thread_number();
    if (at >= w.n * w.channels)
        return;
    size_t from = first_pixel(&w, at);
    double sum = 0;
    for (size_t s = 0; s < w.pixels; s++)
        sum += pixel_value(&w, x, from, s);
    y[at] = (float)(sum / (double)w.pixels);
}
static void global_avg(cuda_stream s, const struct cuda_pool *w, const void *x, float *y) {
    LAUNCH(global_avg_kernel, blocks_for(w->n * w->channels, THREADS), THREADS, s, *w, x, y);
}

static __global__ void global_max_kernel(struct cuda_pool w, const void *x, float *y,
                                         int32_t *winner) {
    size_t at = thread_number();
    if (at >= w.n * w.channels)
        return;
    size_t from = first_pixel(&w, at);
    size_t best = 0;
    for (size_t s = 1; s < w.pixels; s++) {
        float value = pixel_value(&w, x, from, s);
        if (value > pixel_value(&w, x, from, best) || value != value)
            best = s;
    }
    y[at] = pixel_value(&w, x, from, best);
    if (winner)
        winner[at] = (int32_t)best;
}
static void global_max(cuda_stream s, const struct cuda_pool *w, const void *x, float *y,
                       int32_t *winner) {
    LAUNCH(global_max_kernel, blocks_for(w->n * w->channels, THREADS), THREADS, s, *w, x, y,
           winner);
}

static __global__ void global_max_gradient_kernel(struct cuda_pool w, const float *grad,
                                                  const int32_t *winner, void *out) {
    size_t at = thread_number(), s, c;
    if (at >= w.n * w.pixels * w.channels)
        return;
    size_t vector = row_of(row_of(at, w.channels, &c), w.pixels, &s) * w.channels + c;
    store_value(out, at, w.narrow, (size_t)winner[vector] == s ? grad[vector] : 0.0f);
}
static void global_max_gradient(cuda_stream s, const struct cuda_pool *w, const float *grad,
                                const int32_t *winner, void *out) {
    LAUNCH(global_max_gradient_kernel, blocks_for(w->n * w->pixels * w->channels, THREADS), THREADS,
           s, *w, grad, winner, out);
}

/* Powers are taken as exp(p log x), relative to the largest in a channel, so that none of them
 * leaves float32's range whatever p becomes. */
static __device__ float gem_log(float x) {
    return logf(x > 1e-6f ? x : 1e-6f);
}

static __global__ void global_gem_kernel(struct cuda_pool w, const void *x, const float *power,
                                         float *y, float *state) {
    size_t at = thread_number();
    if (at >= w.n * w.channels)
        return;
    size_t from = first_pixel(&w, at);
    float p = *power, top = -INFINITY, broken = 0; /* NaN where an x is not finite */
    for (size_t s = 0; s < w.pixels; s++) {
        float value = p * gem_log(pixel_value(&w, x, from, s));
        top = value > top ? value : top;
        broken += 0.0f * pixel_value(&w, x, from, s);
    }
    double sum = 0, moment = 0;
    for (size_t s = 0; s < w.pixels; s++) {
        float log_x = gem_log(pixel_value(&w, x, from, s)), part = expf(p * log_x - top);
        sum += part;
        moment += part * log_x;
    }
    float log_mean = top + (float)log(sum / (double)w.pixels) + broken;
    y[at] = expf(log_mean / p);
    if (!state)
        return;
    state[at] = log_mean;
    state[w.n * w.channels + at] = (float)(moment / sum);
}
static void global_gem(cuda_stream s, const struct cuda_pool *w, const void *x, const float *p,
                       float *y, float *state) {
    LAUNCH(global_gem_kernel, blocks_for(w->n * w->channels, THREADS), THREADS, s, *w, x, p, y,
           state);
}

/* dy/dx = y / m x^(p-1) / pixels. */
static __global__ void global_gem_gradient_kernel(struct cuda_pool w, const float *grad,
                                                  const void *x, const float *power,
                                                  const float *logs, void *out) {
    size_t at = thread_number(), s, c;
    if (at >= w.n * w.pixels * w.channels)
        return;
    size_t vector = row_of(row_of(at, w.channels, &c), w.pixels, &s) * w.channels + c;
    float p = *power, own = value_of(x, at, w.narrow);
    float slope = expf(logs[vector] / p - logs[vector] + (p - 1.0f) * gem_log(own));
    store_value(out, at, w.narrow, own >= 1e-6f ? grad[vector] / (float)w.pixels * slope : 0.0f);
}
static void global_gem_gradient(cuda_stream s, const struct cuda_pool *w, const float *grad,
                                const void *x, const float *p, const float *state, void *out) {
    LAUNCH(global_gem_gradient_kernel, blocks_for(w->n * w->pixels * w->channels, THREADS), THREADS,
           s, *w, grad, x, p, state, out);
}

/* With y = m^(1/p) and s the second value of the state: dy/dp = y (s - log m / p) / p. One
 * block. */
static __global__ void gem_power_kernel(size_t count, const float *grad, const float *power,
                                        const float *state, double *sum) {
    SHARED(double, part, THREADS + 16);
    double p = *power, own = 0;
    for (size_t k = threadIdx.x; k < count; k += THREADS) {
        double log_y = state[k] / p;
        own += grad[k] * exp(log_y) * (state[count + k] - log_y) / p;
    }
    own = block_sum(own, part);
    if (threadIdx.x == 0)
        *sum = own;
}
static void gem_power(cuda_stream s, size_t count, const float *grad, const float *p,
                      const float *state, double *sum) {
    LAUNCH(gem_power_kernel, 1, THREADS, s, count, grad, p, state, sum);
}

void cuda_fill_pools(struct cuda_kernels *table) {
    table->max_pool = max_pool;
    table->max_pool_gradient = max_pool_gradient;
    table->avg_pool = avg_pool;
    table->avg_pool_gradient = avg_pool_gradient;
    table->global_avg = global_avg;
    table->global_max = global_max;
    table->global_max_gradient = global_max_gradient;
    table->global_gem = global_gem;
    table->global_gem_gradient = global_gem_gradient;
    table->gem_power = gem_power;
}
