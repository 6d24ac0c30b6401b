/* Feature maps and vectors between convolutions: input, pointwise work, sums over rows, batch
 * normalisation. */
#include "backends/cuda/device/launch.h"

/* A thread makes one pixel. */
static __global__ void input_kernel(struct cuda_input in, float *out) {
    size_t at = thread_number(), pixels = in.height * in.width, s;
    if (at >= in.n * pixels)
        return;
    size_t i = row_of(at, pixels, &s);
    float *to = out + at * in.stride;
    bool erased = false;
    if (in.erased) {
        const int *rect = in.erased + 4 * i;
        int y = (int)(s / in.width), x = (int)(s % in.width);
        erased = rect[2] > 0 && x >= rect[0] && x < rect[0] + rect[2] && y >= rect[1] &&
                 y < rect[1] + rect[3];
    }
    for (int c = 0; c < 3; c++) {
        if (erased)
            to[c] = in.shift[c];
        else if (in.pixels)
            to[c] = in.table[c * 256 + in.pixels[at * 3 + in.source[c]]];
        else
            to[c] = in.floats[(i * 3 + c) * pixels + s] * in.scale[c] + in.shift[c];
    }
    for (size_t c = 3; c < in.stride; c++)
        to[c] = 0;
}
static void input(cuda_stream s, const struct cuda_input *in, float *out) {
    LAUNCH(input_kernel, blocks_for(in->n * in->height * in->width, THREADS), THREADS, s, *in, out);
}

static __global__ void affine_kernel(struct cuda_rows rows, const float *x, const float *scale,
                                     const float *shift, const float *residual, bool relu,
                                     float *out) {
    size_t c, at = thread_number();
    if (at >= rows.count * rows.width)
        return;
    at = row_of(at, rows.width, &c) * rows.stride + c;
    float value = x ? x[at] : 0.0f;
    if (scale)
        value *= scale[c];
    if (shift)
        value += shift[c];
    if (residual)
        value += residual[at];
    out[at] = relu && value < 0.0f ? 0.0f : value;
}
static void affine(cuda_stream s, struct cuda_rows rows, const float *x, const float *scale,
                   const float *shift, const float *residual, bool relu, float *out) {
    LAUNCH(affine_kernel, blocks_for(rows.count * rows.width, THREADS), THREADS, s, rows, x, scale,
           shift, residual, relu, out);
}

static __device__ float term_at(const struct cuda_term *term, size_t i, size_t s, size_t c) {
    size_t at = i * term->image + c;
    return term->broadcast ? term->data[at] * term->scale : term->data[at + s * term->pixel];
}

static __global__ void combine_kernel(size_t n, size_t pixels, size_t channels,
                                      struct cuda_terms terms, struct cuda_term mask, float *out) {
    size_t at = thread_number(), c, s;
    if (at >= n * pixels * channels)
        return;
    size_t i = row_of(row_of(at, channels, &c), pixels, &s);
    float sum = term_at(&terms.items[0], i, s, c);
    for (int t = 1; t < terms.count; t++)
        sum += term_at(&terms.items[t], i, s, c);
    out[at] = !mask.data || term_at(&mask, i, s, c) > 0.0f ? sum : 0.0f;
}
static void combine(cuda_stream s, size_t n, size_t pixels, size_t channels,
                    const struct cuda_terms *terms, const struct cuda_term *mask, float *out) {
    struct cuda_term none = {NULL, 0, 0, 0, false};
    LAUNCH(combine_kernel, blocks_for(n * pixels * channels, THREADS), THREADS, s, n, pixels,
           channels, *terms, mask ? *mask : none, out);
}

static __global__ void copy_kernel(size_t rows, size_t width, const float *x, size_t from,
                                   float *out, size_t to) {
    size_t c, at = thread_number();
    if (at >= rows * width)
        return;
    size_t r = row_of(at, width, &c);
    out[r * to + c] = x[r * from + c];
}
static void copy(cuda_stream s, size_t rows, size_t width, const float *x, size_t from_stride,
                 float *out, size_t to_stride) {
    LAUNCH(copy_kernel, blocks_for(rows * width, THREADS), THREADS, s, rows, width, x, from_stride,
           out, to_stride);
}

/* Sums over rows: a block takes COLUMNS channels and a share of the rows, LINES of them at a time,
 * and a second kernel adds up the shares. */
enum { COLUMNS = 32, LINES = THREADS / COLUMNS };

static __device__ void take_row(const struct cuda_sums *s, size_t r, size_t c, double *first,
                                double *second) {
    size_t at = r * s->rows.stride + c;
    double x = s->x[at];
    if (s->kind == CUDA_SUM_SQUARES) {
        double d = x - s->center[c];
        *first += d * d;
        return;
    }
    *first += x;
    if (s->kind == CUDA_SUM_PRODUCT)
        *second += x * (s->y[at] - (s->center ? (double)s->center[c] : 0.0));
    else if (s->kind == CUDA_SUM_NORMED)
        *second += x * (((double)s->y[at] - s->center[r]) * s->center[s->rows.count + r]);
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

static __global__ void store_kernel(size_t count, const double *sums, double factor,
                                    bool accumulate, float *grad) {
    size_t c = thread_number();
    if (c < count)
        store_gradient(&grad[c], sums[c] * factor, accumulate);
}
static void store(cuda_stream s, size_t count, const double *sums, double factor, bool accumulate,
                  float *grad) {
    LAUNCH(store_kernel, blocks_for(count, THREADS), THREADS, s, count, sums, factor, accumulate,
           grad);
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
                                            const float *statistics, bool accumulate,
                                            float *grad_weight, float *grad_bias,
                                            float *coefficients) {
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
    store_gradient(&grad_weight[c], sum_x / sqrt(s2), accumulate);
    store_gradient(&grad_bias[c], sum, accumulate);
}
static void norm_backward(cuda_stream s, const struct cuda_norm *norm, const double *sums,
                          double count, const float *statistics, bool accumulate,
                          float *grad_weight, float *grad_bias, float *coefficients) {
    LAUNCH(norm_backward_kernel, blocks_for(norm->stride, THREADS), THREADS, s, *norm, sums, count,
           statistics, accumulate, grad_weight, grad_bias, coefficients);
}

static __global__ void norm_input_kernel(struct cuda_rows rows, const float *grad, const float *x,
                                         const float *mean, const float *coefficients, float *out) {
    size_t c, at = thread_number();
    if (at >= rows.count * rows.width)
        return;
    at = row_of(at, rows.width, &c) * rows.stride + c;
    const float *a = coefficients, *b = a + rows.width, *d = b + rows.width;
    out[at] = a[c] * grad[at] + b[c] * (x[at] - mean[c]) + d[c];
}
static void norm_input(cuda_stream s, struct cuda_rows rows, const float *grad, const float *x,
                       const float *mean, const float *coefficients, float *out) {
    LAUNCH(norm_input_kernel, blocks_for(rows.count * rows.width, THREADS), THREADS, s, rows, grad,
           x, mean, coefficients, out);
}

static __global__ void norm_affine_kernel(struct cuda_norm norm, const float *bias, size_t room,
                                          float *scale, float *shift) {
    size_t c = thread_number();
    if (c >= room)
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
static void norm_affine(cuda_stream s, const struct cuda_norm *norm, const float *bias, size_t room,
                        float *scale, float *shift) {
    LAUNCH(norm_affine_kernel, blocks_for(room, THREADS), THREADS, s, *norm, bias, room, scale,
           shift);
}

static __global__ void frozen_norm_kernel(struct cuda_norm norm, const double *sums,
                                          bool accumulate, float *grad_weight, float *grad_bias) {
    size_t c = thread_number();
    if (c >= norm.channels)
        return;
    double s = sqrt(norm.running_var[c] + norm.epsilon);
    double product = sums[norm.stride + c] - norm.running_mean[c] * sums[c];
    store_gradient(&grad_weight[c], product / s, accumulate);
    store_gradient(&grad_bias[c], sums[c], accumulate);
}
static void frozen_norm(cuda_stream s, const struct cuda_norm *norm, const double *sums,
                        bool accumulate, float *grad_weight, float *grad_bias) {
    LAUNCH(frozen_norm_kernel, blocks_for(norm->channels, THREADS), THREADS, s, *norm, sums,
           accumulate, grad_weight, grad_bias);
}

void cuda_fill_maps(struct cuda_kernels *table) {
    table->input = input;
    table->affine = affine;
    table->combine = combine;
    table->copy = copy;
    table->sums = sums;
    table->store = store;
    table->norm_mean = norm_mean;
    table->norm_variance = norm_variance;
    table->norm_backward = norm_backward;
    table->norm_input = norm_input;
    table->norm_affine = norm_affine;
    table->frozen_norm = frozen_norm;
}
