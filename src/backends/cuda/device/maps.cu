/* Feature maps and vectors between convolutions: input, pointwise work, sums over rows, batch
 * normalisation. */
#include "backends/cuda/device/launch.h"

/* One thread per pixel. */
static __global__ void input_kernel(struct cuda_input in, void *out) {
    size_t at = thread_number(), pixels = in.height * in.width, s;
    if (at >= in.n * pixels)
        return;
    size_t i = row_of(at, pixels, &s);
    size_t to = at * in.stride;
    bool erased = false;
    if (in.erased) {
        const int *rect = in.erased + 4 * i;
        int y = (int)(s / in.width), x = (int)(s % in.width);
        erased = rect[2] > 0 && x >= rect[0] && x < rect[0] + rect[2] && y >= rect[1] &&
                 y < rect[1] + rect[3];
    }
    for (int c = 0; c < 3; c++) {
        float value;
        if (erased)
            value = in.shift[c];
        else if (in.pixels)
            value = in.table[c * 256 + in.pixels[at * 3 + in.source[c]]];
        else
            value = in.floats[(i * 3 + c) * pixels + s] * in.scale[c] + in.shift[c];
        store_value(out, to + c, in.narrow, value);
    }
    for (size_t c = 3; c < in.stride; c++)
        store_value(out, to + c, in.narrow, 0);
}
static void input(cuda_stream s, const struct cuda_input *in, void *out) {
    LAUNCH(input_kernel, blocks_for(in->n * in->height * in->width, THREADS), THREADS, s, *in, out);
}

static __global__ void affine_kernel(struct cuda_rows rows, const void *x, const float *scale,
                                     const float *shift, const void *residual, bool relu,
                                     void *out) {
    size_t c, at = thread_number();
    if (at >= rows.count * rows.width)
        return;
    at = row_of(at, rows.width, &c) * rows.stride + c;
    float value = x ? value_of(x, at, rows.narrow) : 0.0f;
    if (scale)
        value *= scale[c];
    if (shift)
        value += shift[c];
    if (residual)
        value += value_of(residual, at, rows.narrow);
    store_value(out, at, rows.narrow, relu && value < 0.0f ? 0.0f : value);
}
static void affine(cuda_stream s, struct cuda_rows rows, const void *x, const float *scale,
                   const float *shift, const void *residual, bool relu, void *out) {
    LAUNCH(affine_kernel, blocks_for(rows.count * rows.width, THREADS), THREADS, s, rows, x, scale,
           shift, residual, relu, out);
}

static __global__ void combine_kernel(size_t n, size_t pixels, size_t channels,
                                      struct cuda_terms terms, struct cuda_term mask, bool narrow,
                                      void *out) {
    size_t at = thread_number(), c, s;
    if (at >= n * pixels * channels)
        return;
    size_t i = row_of(row_of(at, channels, &c), pixels, &s);
    float sum = term_value(&terms.items[0], i, s, c);
    for (int t = 1; t < terms.count; t++)
        sum += term_value(&terms.items[t], i, s, c);
    bool passes = !mask.data || term_value(&mask, i, s, c) > 0.0f;
    store_value(out, at, narrow, passes ? sum : 0.0f);
}
static void combine(cuda_stream s, size_t n, size_t pixels, size_t channels,
                    const struct cuda_terms *terms, const struct cuda_term *mask, bool narrow,
                    void *out) {
    struct cuda_term none = {NULL, 0, 0, 0, false, false};
    LAUNCH(combine_kernel, blocks_for(n * pixels * channels, THREADS), THREADS, s, n, pixels,
           channels, *terms, mask ? *mask : none, narrow, out);
}

static __global__ void copy_kernel(struct cuda_rows rows, const void *x, void *out, size_t to) {
    size_t c, at = thread_number();
    if (at >= rows.count * rows.width)
        return;
    size_t r = row_of(at, rows.width, &c);
    store_value(out, r * to + c, rows.narrow, value_of(x, r * rows.stride + c, rows.narrow));
}
static void copy(cuda_stream s, struct cuda_rows rows, const void *x, void *out, size_t to_stride) {
    LAUNCH(copy_kernel, blocks_for(rows.count * rows.width, THREADS), THREADS, s, rows, x, out,
           to_stride);
}

static __global__ void narrow_kernel(size_t count, const float *x, void *out) {
    size_t i = thread_number();
    if (i < count)
        store_value(out, i, true, x[i]);
}
static void narrow(cuda_stream s, size_t count, const float *x, void *out) {
    LAUNCH(narrow_kernel, blocks_for(count, THREADS), THREADS, s, count, x, out);
}

/* Sums over rows: a block takes COLUMNS channels and a share of the rows, LINES of them at a time,
 * and a second kernel adds up the shares. */
enum { COLUMNS = 32, LINES = THREADS / COLUMNS };

static __device__ void take_row(const struct cuda_sums *s, size_t r, size_t c, double *first,
                                double *second) {
    size_t at = r * s->rows.stride + c;
    double x = value_of(s->x, at, s->rows.narrow);
    if (s->kind == CUDA_SUM_SQUARES) {
        double d = x - s->center[c];
        *first += d * d;
        return;
    }
    *first += x;
    if (s->kind == CUDA_SUM_PRODUCT)
        *second +=
            x * (value_of(s->y, at, s->rows.narrow) - (s->center ? (double)s->center[c] : 0.0));
    else if (s->kind == CUDA_SUM_NORMED)
        *second += x * (((double)value_of(s->y, at, s->rows.narrow) - s->center[r]) *
                        s->center[s->rows.count + r]);
}

static __global__ void sums_kernel(struct cuda_sums sums, size_t chunks, double *partial) {
    SHARED(double, part, 2 * THREADS);
    size_t groups = (sums.rows.width + COLUMNS - 1) / COLUMNS, group;
    size_t chunk = row_of(blockIdx.x, groups, &group);
    unsigned column = threadIdx.x % COLUMNS, line = threadIdx.x / COLUMNS;
    size_t c = group * COLUMNS + column, each = (sums.rows.count + chunks - 1) / chunks;
    size_t end = (chunk + 1) * each < sums.rows.count ? (chunk + 1) * each : sums.rows.count;
    double first = 0, second = 0;
    if (c < sums.rows.width)
        for (size_t r = chunk * each + line; r < end; r += LINES)
            take_row(&sums, r, c, &first, &second);
    part[threadIdx.x] = first;
    part[THREADS + threadIdx.x] = second;
    __syncthreads();
    if (line > 1 || c >= sums.rows.width)
        return;
    double sum = 0; /* line 0 adds up the first sums, line 1 the second */
    for (unsigned k = 0; k < LINES; k++)
        sum += part[line * THREADS + k * COLUMNS + column];
    partial[(chunk * 2 + line) * sums.rows.width + c] = sum;
}

static __global__ void add_chunks_kernel(size_t chunks, size_t values, const double *partial,
                                         double *out) {
    size_t at = thread_number();
    if (at >= values)
        return;
    double sum = 0;
    for (size_t k = 0; k < chunks; k++)
        sum += partial[k * values + at];
    out[at] = sum;
}

static void sums(cuda_stream s, const struct cuda_sums *sums, double *partial, double *out) {
    size_t groups = blocks_for(sums->rows.width, COLUMNS);
    size_t chunks = blocks_for(sums->rows.count, 4 * LINES);
    if (chunks > CUDA_SUM_CHUNKS)
        chunks = CUDA_SUM_CHUNKS;
    LAUNCH(sums_kernel, groups * chunks, THREADS, s, *sums, chunks, partial);
    LAUNCH(add_chunks_kernel, blocks_for(2 * sums->rows.width, THREADS), THREADS, s, chunks,
           2 * sums->rows.width, partial, out);
}

static __global__ void store_kernel(size_t count, const double *sums, double factor, float *grad) {
    size_t c = thread_number();
    if (c < count)
        grad[c] = (float)(sums[c] * factor);
}
static void store(cuda_stream s, size_t count, const double *sums, double factor, float *grad) {
    LAUNCH(store_kernel, blocks_for(count, THREADS), THREADS, s, count, sums, factor, grad);
}

static __global__ void norm_mean_kernel(size_t channels, const double *sums, double count,
                                        float *statistics) {
    size_t c = thread_number();
    if (c < channels)
        statistics[c] = (float)(sums[c] / count);
}
static void norm_mean(cuda_stream s, size_t channels, const double *sums, double count,
                      float *statistics) {
    LAUNCH(norm_mean_kernel, blocks_for(channels, THREADS), THREADS, s, channels, sums, count,
           statistics);
}

/* Running statistics move towards the batch's, PyTorch's way: the variance unbiased. */
static __global__ void norm_variance_kernel(struct cuda_norm norm, const double *sums, double count,
                                            float momentum, float *statistics) {
    size_t c = thread_number(), stride = norm.stride;
    if (c >= stride)
        return;
    if (c >= norm.channels) {
        statistics[2 * stride + c] = statistics[3 * stride + c] = 0;
        return;
    }
    float mean = statistics[c], variance = (float)(sums[c] / count), keep = 1.0f - momentum;
    float unbias = (float)(count > 1 ? count / (count - 1) : 1.0);
    double factor = norm.weight[c] / sqrt((double)variance + norm.epsilon);
    statistics[stride + c] = variance;
    statistics[2 * stride + c] = (float)factor;
    statistics[3 * stride + c] = (float)(norm.bias[c] - mean * factor);
    norm.running_mean[c] = keep * norm.running_mean[c] + momentum * mean;
    norm.running_var[c] = keep * norm.running_var[c] + momentum * variance * unbias;
}
static void norm_variance(cuda_stream s, const struct cuda_norm *norm, const double *sums,
                          double count, float momentum, float *statistics) {
    LAUNCH(norm_variance_kernel, blocks_for(norm->stride, THREADS), THREADS, s, *norm, sums, count,
           momentum, statistics);
}

/* With N values a channel, x^ = (x - mean) / s and gradient g:
 * dx = weight / s * (g - mean(g) - x^ * mean(g x^)). */
static __global__ void norm_backward_kernel(struct cuda_norm norm, const double *sums, double count,
                                            const float *statistics, float *grad_weight,
                                            float *grad_bias, float *coefficients) {
    size_t c = thread_number(), stride = norm.stride;
    if (c >= stride)
        return;
    if (c >= norm.channels) {
        coefficients[c] = coefficients[stride + c] = coefficients[2 * stride + c] = 0;
        return;
    }
    double sum = sums[c], sum_x = sums[stride + c];
    double s2 = statistics[stride + c] + norm.epsilon, scale = statistics[2 * stride + c];
    coefficients[c] = (float)scale;
    coefficients[stride + c] = (float)(-scale * sum_x / (s2 * count));
    coefficients[2 * stride + c] = (float)(-scale * sum / count);
    if (!grad_weight)
        return;
    grad_weight[c] = (float)(sum_x / sqrt(s2));
    grad_bias[c] = (float)(sum);
}
static void norm_backward(cuda_stream s, const struct cuda_norm *norm, const double *sums,
                          double count, const float *statistics, float *grad_weight,
                          float *grad_bias, float *coefficients) {
    LAUNCH(norm_backward_kernel, blocks_for(norm->stride, THREADS), THREADS, s, *norm, sums, count,
           statistics, grad_weight, grad_bias, coefficients);
}

static __global__ void norm_input_kernel(struct cuda_rows rows, const void *grad, const void *x,
                                         const float *mean, const float *coefficients, void *out) {
    size_t c, at = thread_number();
    if (at >= rows.count * rows.width)
        return;
    at = row_of(at, rows.width, &c) * rows.stride + c;
    const float *a = coefficients, *b = a + rows.width, *d = b + rows.width;
    float g = value_of(grad, at, rows.narrow), centered = value_of(x, at, rows.narrow) - mean[c];
    store_value(out, at, rows.narrow, a[c] * g + b[c] * centered + d[c]);
}
static void norm_input(cuda_stream s, struct cuda_rows rows, const void *grad, const void *x,
                       const float *mean, const float *coefficients, void *out) {
    LAUNCH(norm_input_kernel, blocks_for(rows.count * rows.width, THREADS), THREADS, s, rows, grad,
           x, mean, coefficients, out);
}

static __global__ void norm_affine_kernel(struct cuda_norm norm, const float *bias, size_t padded,
                                          float *scale, float *shift) {
    size_t c = thread_number();
    if (c >= padded)
        return;
    double factor = 0, offset = 0;
    if (c < norm.channels) {
        factor = norm.weight[c] / sqrt(norm.running_var[c] + norm.epsilon);
        offset = norm.bias[c] - norm.running_mean[c] * factor;
    }
    scale[c] = (float)factor;
    shift[c] = (float)offset;
    if (bias && c < norm.channels)
        shift[c] += bias[c] * scale[c];
}
static void norm_affine(cuda_stream s, const struct cuda_norm *norm, const float *bias, size_t padded,
                        float *scale, float *shift) {
    LAUNCH(norm_affine_kernel, blocks_for(padded, THREADS), THREADS, s, *norm, bias, padded, scale,
           shift);
}

static __global__ void frozen_norm_kernel(struct cuda_norm norm, const double *sums,
                                          float *grad_weight, float *grad_bias) {
    size_t c = thread_number();
    if (c >= norm.channels)
        return;
    double s = sqrt(norm.running_var[c] + norm.epsilon);
    double product = sums[norm.stride + c] - norm.running_mean[c] * sums[c];
    grad_weight[c] = (float)(product / s);
    grad_bias[c] = (float)(sums[c]);
}
static void frozen_norm(cuda_stream s, const struct cuda_norm *norm, const double *sums,
                        float *grad_weight, float *grad_bias) {
    LAUNCH(frozen_norm_kernel, blocks_for(norm->channels, THREADS), THREADS, s, *norm, sums,
           grad_weight, grad_bias);
}

void cuda_fill_maps(struct cuda_kernels *table) {
    table->input = input;
    table->affine = affine;
    table->combine = combine;
    table->copy = copy;
    table->narrow = narrow;
    table->sums = sums;
    table->store = store;
    table->norm_mean = norm_mean;
    table->norm_variance = norm_variance;
    table->norm_backward = norm_backward;
    table->norm_input = norm_input;
    table->norm_affine = norm_affine;
    table->frozen_norm = frozen_norm;
}
