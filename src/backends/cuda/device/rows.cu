/* Rows of channels: normalisation of vectors and tokens, and the operations of transformers. */
#include "backends/cuda/device/launch.h"

/* A block for each row. */
static __global__ void l2_kernel(struct cuda_rows rows, const float *x, float *y, float *norms) {
    SHARED(double, part, THREADS + 16);
    size_t at = blockIdx.x * rows.stride;
    double squares = 0;
    for (size_t c = threadIdx.x; c < rows.width; c += THREADS)
        squares += (double)x[at + c] * x[at + c];
    float norm = (float)fmax(sqrt(block_sum(squares, part)), 1e-12);
    for (size_t c = threadIdx.x; c < rows.width; c += THREADS)
        y[at + c] = x[at + c] / norm;
    if (threadIdx.x == 0)
        norms[blockIdx.x] = norm;
}
static void l2_normalize(cuda_stream s, struct cuda_rows rows, const float *x, float *y,
                         float *norms) {
    LAUNCH(l2_kernel, rows.count, THREADS, s, rows, x, y, norms);
}

static __global__ void l2_gradient_kernel(struct cuda_rows rows, const float *grad, const float *y,
                                          const float *norms, float *out) {
    SHARED(double, part, THREADS + 16);
    size_t at = blockIdx.x * rows.stride;
    double along = 0;
    for (size_t c = threadIdx.x; c < rows.width; c += THREADS)
        along += (double)grad[at + c] * y[at + c];
    along = block_sum(along, part);
    float norm = norms[blockIdx.x];
    if (norm <= 1e-12f) /* below the clamp the norm is a constant */
        along = 0;
    for (size_t c = threadIdx.x; c < rows.width; c += THREADS)
        out[at + c] = (float)((grad[at + c] - along * y[at + c]) / norm);
}
static void l2_normalize_gradient(cuda_stream s, struct cuda_rows rows, const float *grad,
                                  const float *y, const float *norms, float *out) {
    LAUNCH(l2_gradient_kernel, rows.count, THREADS, s, rows, grad, y, norms, out);
}

static __global__ void layer_norm_kernel(struct cuda_rows rows, double epsilon, const float *x,
                                         const float *weight, const float *bias, float *y,
                                         float *means, float *inverses) {
    SHARED(double, part, THREADS + 16);
    size_t at = blockIdx.x * rows.stride;
    double sum = 0, squares = 0;
    for (size_t c = threadIdx.x; c < rows.width; c += THREADS)
        sum += x[at + c];
    float mean = (float)(block_sum(sum, part) / (double)rows.width);
    for (size_t c = threadIdx.x; c < rows.width; c += THREADS)
        squares += ((double)x[at + c] - mean) * ((double)x[at + c] - mean);
    squares = block_sum(squares, part);
    float inverse = (float)(1.0 / sqrt(squares / (double)rows.width + epsilon));
    for (size_t c = threadIdx.x; c < rows.width; c += THREADS) {
        float value = (x[at + c] - mean) * inverse;
        y[at + c] = weight ? value * weight[c] + bias[c] : value;
    }
    if (threadIdx.x == 0) {
        means[blockIdx.x] = mean;
        inverses[blockIdx.x] = inverse;
    }
}
static void layer_norm(cuda_stream s, struct cuda_rows rows, double epsilon, const float *x,
                       const float *weight, const float *bias, float *y, float *mean,
                       float *inverse) {
    LAUNCH(layer_norm_kernel, rows.count, THREADS, s, rows, epsilon, x, weight, bias, y, mean,
           inverse);
}

/* With g = gradient * weight and x^ = (x - mean) / s: (g - mean(g) - x^ mean(g x^)) / s. */
static __global__ void layer_norm_gradient_kernel(struct cuda_rows rows, const float *grad,
                                                  const float *x, const float *weight,
                                                  const float *means, const float *inverses,
                                                  float *out) {
    SHARED(double, part, THREADS + 16);
    size_t at = blockIdx.x * rows.stride;
    float mean = means[blockIdx.x], inverse = inverses[blockIdx.x];
    double sum = 0, dot = 0;
    for (size_t c = threadIdx.x; c < rows.width; c += THREADS) {
        float g = weight ? grad[at + c] * weight[c] : grad[at + c];
        sum += g;
        dot += (double)g * (x[at + c] - mean);
    }
    sum = block_sum(sum, part) / (double)rows.width;
    dot = block_sum(dot, part) * inverse * inverse / (double)rows.width;
    for (size_t c = threadIdx.x; c < rows.width; c += THREADS) {
        float g = weight ? grad[at + c] * weight[c] : grad[at + c];
        out[at + c] = (float)(inverse * (g - sum - (x[at + c] - mean) * dot));
    }
}
static void layer_norm_gradient(cuda_stream s, struct cuda_rows rows, const float *grad,
                                const float *x, const float *weight, const float *mean,
                                const float *inverse, float *out) {
    LAUNCH(layer_norm_gradient_kernel, rows.count, THREADS, s, rows, grad, x, weight, mean, inverse,
           out);
}

/* x Phi(x) with the normal distribution Phi, and CLIP's approximation x / (1 + exp(-1.702 x)). */
static __device__ float normal_distribution(float x) {
    return 0.5f + 0.5f * erff(x * 0.70710678f);
}
static __device__ float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

static __global__ void gelu_kernel(size_t count, bool quick, const float *x, float *y) {
    size_t i = thread_number();
    if (i < count)
        y[i] = x[i] * (quick ? sigmoid(1.702f * x[i]) : normal_distribution(x[i]));
}
static void gelu(cuda_stream s, size_t count, bool quick, const float *x, float *y) {
    LAUNCH(gelu_kernel, blocks_for(count, THREADS), THREADS, s, count, quick, x, y);
}

static __global__ void gelu_gradient_kernel(size_t count, bool quick, const float *grad,
                                            const float *x, float *out) {
    size_t i = thread_number();
    if (i >= count)
        return;
    float v = x[i];
    if (quick) {
        float p = sigmoid(1.702f * v);
        out[i] = grad[i] * (p + 1.702f * v * p * (1.0f - p));
    } else {
        float density = 0.39894228f * expf(-0.5f * v * v);
        out[i] = grad[i] * (normal_distribution(v) + v * density);
    }
}
static void gelu_gradient(cuda_stream s, size_t count, bool quick, const float *grad,
                          const float *x, float *out) {
    LAUNCH(gelu_gradient_kernel, blocks_for(count, THREADS), THREADS, s, count, quick, grad, x,
           out);
}

static __global__ void keep_kernel(size_t n, size_t size, const float *factor, const float *x,
                                   const float *residual, float *out) {
    size_t at = thread_number(), k;
    if (at >= n * size)
        return;
    out[at] = factor[row_of(at, size, &k)] * x[at] + (residual ? residual[at] : 0.0f);
}
static void keep(cuda_stream s, size_t n, size_t size, const float *factor, const float *x,
                 const float *residual, float *out) {
    LAUNCH(keep_kernel, blocks_for(n * size, THREADS), THREADS, s, n, size, factor, x, residual,
           out);
}

/* The learned token of row t < prefix, in the parameter that holds it. */
static __device__ const float *learned_row(const struct cuda_tokens *k, size_t t, const float *cls,
                                           const float *distilled, const float *extra) {
    size_t before = k->prefix - k->registers;
    if (t >= before)
        return extra + (t - before) * k->channels;
    return t ? distilled : cls;
}

/* The position embedding of row t; -1: it has none. */
static __device__ long long position_row(const struct cuda_tokens *k, size_t t) {
    if (!k->registers)
        return (long long)t;
    return t >= k->prefix ? (long long)(t - k->prefix) : -1;
}

static __global__ void tokens_kernel(struct cuda_tokens k, const float *x, float *y) {
    size_t at = thread_number(), c, t;
    if (at >= k.n * k.tokens * k.channels)
        return;
    size_t i = row_of(row_of(at, k.channels, &c), k.tokens, &t), patches = k.tokens - k.prefix;
    float value = t >= k.prefix ? x[(i * patches + t - k.prefix) * k.channels + c]
                                : learned_row(&k, t, k.cls, k.distilled, k.extra)[c];
    long long position = position_row(&k, t);
    if (position >= 0)
        value += k.positions[(size_t)position * k.channels + c];
    y[at] = value;
}
static void tokens(cuda_stream s, const struct cuda_tokens *t, const float *x, float *y) {
    LAUNCH(tokens_kernel, blocks_for(t->n * t->tokens * t->channels, THREADS), THREADS, s, *t, x,
           y);
}

/* A row's gradient summed over the images goes to the learned token and to its position. */
static __global__ void token_params_kernel(struct cuda_tokens k, const float *grad,
                                           struct cuda_token_grads grads) {
    size_t at = thread_number(), c;
    if (at >= k.tokens * k.channels)
        return;
    size_t t = row_of(at, k.channels, &c);
    double sum = 0;
    for (size_t i = 0; i < k.n; i++)
        sum += grad[i * k.tokens * k.channels + at];
    if (t < k.prefix) {
        const float *row = learned_row(&k, t, grads.cls, grads.distilled, grads.extra);
        ((float *)row)[c] = (float)sum;
    }
    long long position = position_row(&k, t);
    if (position >= 0)
        grads.positions[(size_t)position * k.channels + c] = (float)sum;
}

static __global__ void token_patches_kernel(struct cuda_tokens k, const float *grad, float *out) {
    size_t patches = k.tokens - k.prefix, at = thread_number(), c, t;
    if (at >= k.n * patches * k.channels)
        return;
    size_t i = row_of(row_of(at, k.channels, &c), patches, &t);
    out[at] = grad[(i * k.tokens + k.prefix + t) * k.channels + c];
}
static void tokens_gradient(cuda_stream s, const struct cuda_tokens *t, const float *grad,
                            const struct cuda_token_grads *grads, float *out) {
    LAUNCH(token_params_kernel, blocks_for(t->tokens * t->channels, THREADS), THREADS, s, *t, grad,
           *grads);
    size_t values = t->n * (t->tokens - t->prefix) * t->channels;
    if (out)
        LAUNCH(token_patches_kernel, blocks_for(values, THREADS), THREADS, s, *t, grad, out);
}

static __global__ void token_mean_kernel(size_t n, size_t tokens, size_t channels,
                                         struct cuda_mean mean, const float *x, size_t image,
                                         float *y) {
    size_t at = thread_number(), c;
    if (at >= n * channels)
        return;
    size_t i = row_of(at, channels, &c);
    double sum = 0;
    for (size_t t = mean.first; t < mean.first + mean.count; t++)
        sum += x[(i * tokens + t) * channels + c];
    y[i * image + mean.to + c] = (float)(sum / (double)mean.count);
}
static void token_mean(cuda_stream s, size_t n, size_t tokens, size_t channels,
                       const struct cuda_mean *mean, const float *x, size_t image, float *y) {
    LAUNCH(token_mean_kernel, blocks_for(n * channels, THREADS), THREADS, s, n, tokens, channels,
           *mean, x, image, y);
}

static __global__ void token_mean_gradient_kernel(size_t n, size_t tokens, size_t channels,
                                                  struct cuda_mean mean, const float *grad,
                                                  size_t image, float *out) {
    size_t at = thread_number(), c, t;
    if (at >= n * mean.count * channels)
        return;
    size_t i = row_of(row_of(at, channels, &c), mean.count, &t);
    out[(i * tokens + mean.first + t) * channels + c] +=
        1.0f / (float)mean.count * grad[i * image + mean.to + c];
}
static void token_mean_gradient(cuda_stream s, size_t n, size_t tokens, size_t channels,
                                const struct cuda_mean *mean, const float *grad, size_t image,
                                float *out) {
    LAUNCH(token_mean_gradient_kernel, blocks_for(n * mean->count * channels, THREADS), THREADS, s,
           n, tokens, channels, *mean, grad, image, out);
}

/* A block for each row of scores. */
static __global__ void softmax_kernel(struct cuda_attention a, float *scores, float *log_sums) {
    SHARED(double, part, THREADS + 16);
    float *row = scores + blockIdx.x * a.tokens;
    double most = -INFINITY, sum = 0;
    for (size_t k = threadIdx.x; k < a.tokens; k += THREADS)
        most = fmax(most, (double)(row[k] * a.scale));
    float top = (float)block_max(most, part);
    for (size_t k = threadIdx.x; k < a.tokens; k += THREADS)
        sum += expf(row[k] * a.scale - top);
    sum = block_sum(sum, part);
    float share = (float)(1.0 / sum);
    for (size_t k = threadIdx.x; k < a.tokens; k += THREADS)
        row[k] = expf(row[k] * a.scale - top) * share;
    if (threadIdx.x == 0)
        log_sums[blockIdx.x] = top + (float)log(sum);
}
static void softmax(cuda_stream s, const struct cuda_attention *a, float *scores, float *log_sums) {
    LAUNCH(softmax_kernel, a->n * a->heads * a->tokens, THREADS, s, *a, scores, log_sums);
}

/* p (d - sum of p d) * scale. */
static __global__ void softmax_gradient_kernel(struct cuda_attention a, const float *log_sums,
                                               float *scores, float *d) {
    SHARED(double, part, THREADS + 16);
    float *p = scores + blockIdx.x * a.tokens, *g = d + blockIdx.x * a.tokens;
    double dot = 0;
    for (size_t k = threadIdx.x; k < a.tokens; k += THREADS) {
        p[k] = expf(p[k] * a.scale - log_sums[blockIdx.x]);
        dot += (double)p[k] * g[k];
    }
    dot = block_sum(dot, part);
    for (size_t k = threadIdx.x; k < a.tokens; k += THREADS)
        g[k] = (float)(p[k] * (g[k] - dot) * a.scale);
}
static void softmax_gradient(cuda_stream s, const struct cuda_attention *a, const float *log_sums,
                             float *scores, float *d) {
    LAUNCH(softmax_gradient_kernel, a->n * a->heads * a->tokens, THREADS, s, *a, log_sums, scores,
           d);
}

static __global__ void patches_kernel(struct cuda_input image, size_t side, const float *x,
                                      float *out) {
    size_t across = image.width / side, down = image.height / side, width = 3 * side * side;
    size_t at = thread_number(), k, r, px;
    if (at >= image.n * down * across * width)
        return;
    size_t i = row_of(row_of(at, width, &k), down * across, &r);
    size_t py = row_of(r, across, &px), plane = k / (side * side), y = k / side % side;
    size_t pixel = (i * image.height + py * side + y) * image.width + px * side + k % side;
    out[at] = x[pixel * image.stride + plane];
}
static void patches(cuda_stream s, const struct cuda_input *image, size_t side, const float *x,
                    float *out) {
    size_t count = image->n * (image->height / side) * (image->width / side) * 3 * side * side;
    LAUNCH(patches_kernel, blocks_for(count, THREADS), THREADS, s, *image, side, x, out);
}

void cuda_fill_rows(struct cuda_kernels *table) {
    table->l2_normalize = l2_normalize;
    table->l2_normalize_gradient = l2_normalize_gradient;
    table->layer_norm = layer_norm;
    table->layer_norm_gradient = layer_norm_gradient;
    table->gelu = gelu;
    table->gelu_gradient = gelu_gradient;
    table->keep = keep;
    table->tokens = tokens;
    table->tokens_gradient = tokens_gradient;
    table->token_mean = token_mean;
    table->token_mean_gradient = token_mean_gradient;
    table->softmax = softmax;
    table->softmax_gradient = softmax_gradient;
    table->patches = patches;
}
