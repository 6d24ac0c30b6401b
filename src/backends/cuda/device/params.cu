/* Parameters: batch norms folded into weights and back, optimisers, sizes of gradients. */
#include "backends/cuda/device/launch.h"

static __global__ void scale_outputs_kernel(size_t outputs, size_t inner, const float *values,
                                            const float *scale, float *target) {
    size_t at = thread_number(), i;
    if (at < outputs * inner)
        target[at] = values[at] * scale[row_of(at, inner, &i)];
}
static void scale_outputs(cuda_stream s, size_t outputs, size_t inner, const float *values,
                          const float *scale, float *target) {
    LAUNCH(scale_outputs_kernel, blocks_for(outputs * inner, THREADS), THREADS, s, outputs, inner,
           values, scale, target);
}

/* One block per output. */
static __global__ void unfold_kernel(size_t inner, bool narrow, const void *effective,
                                     const float *values, const float *scale, float *grads,
                                     double *dots) {
    SHARED(double, part, THREADS + 16);
    size_t base = blockIdx.x * inner;
    float factor = scale ? scale[blockIdx.x] : 1.0f;
    double dot = 0;
    for (size_t i = base + threadIdx.x; i < base + inner; i += THREADS) {
        float own = value_of(effective, i, narrow);
        if (dots)
            dot += (double)own * values[i];
        grads[i] = own * factor;
    }
    if (!dots)
        return;
    dot = block_sum(dot, part);
    if (threadIdx.x == 0)
        dots[blockIdx.x] = dot;
}
static void unfold(cuda_stream s, size_t outputs, size_t inner, bool narrow, const void *effective,
                   const float *values, const float *scale, float *grads, double *dots) {
    LAUNCH(unfold_kernel, outputs, THREADS, s, inner, narrow, effective, values, scale, grads,
           dots);
}

static __global__ void unfold_norm_kernel(struct cuda_norm norm, const double *dots,
                                          const float *grad_shift, const float *bias,
                                          const float *scale, float *grad_weight,
                                          float *grad_norm_bias, float *grad_bias) {
    size_t c = thread_number();
    if (c >= norm.channels)
        return;
    double own = bias ? bias[c] : 0.0, s = sqrt(norm.running_var[c] + norm.epsilon);
    grad_weight[c] = (float)((dots[c] + (own - norm.running_mean[c]) * grad_shift[c]) / s);
    grad_norm_bias[c] = (float)(grad_shift[c]);
    if (bias)
        grad_bias[c] = (float)((double)grad_shift[c] * scale[c]);
}
static void unfold_norm(cuda_stream s, const struct cuda_norm *norm, const double *dots,
                        const float *grad_shift, const float *bias, const float *scale,
                        float *grad_weight, float *grad_norm_bias, float *grad_bias) {
    LAUNCH(unfold_norm_kernel, blocks_for(norm->channels, THREADS), THREADS, s, *norm, dots,
           grad_shift, bias, scale, grad_weight, grad_norm_bias, grad_bias);
}

/* The arithmetic of src/optimisers. */
static __global__ void update_kernel(struct cuda_update u, size_t count, float *values,
                                     const float *grads, float *first, float *second) {
    size_t i = thread_number();
    if (i >= count)
        return;
    float value = values[i], g = grads[i] + u.decay * value;
    if (u.kind == CUDA_ADAM) {
        float m = u.beta1 * first[i] + u.fresh1 * g, v = u.beta2 * second[i] + u.fresh2 * g * g;
        first[i] = m;
        second[i] = v;
        value -= u.shrink * value + u.rate * m / (sqrtf(v) * u.root + u.epsilon);
    } else if (u.kind == CUDA_SGD || u.kind == CUDA_SGD_NESTEROV) {
        float b = u.momentum * first[i] + g;
        first[i] = b;
        value -= u.rate * (u.kind == CUDA_SGD ? b : g + u.momentum * b);
    } else {
        float v = u.beta2 * first[i] + u.fresh2 * g * g, d = g / (sqrtf(v) + u.epsilon);
        first[i] = v;
        if (u.kind == CUDA_RMSPROP_MOMENTUM) {
            d = u.momentum * second[i] + d;
            second[i] = d;
        }
        value -= u.rate * d;
    }
    values[i] = value;
}
static void update(cuda_stream s, const struct cuda_update *u, size_t count, float *values,
                   const float *grad, float *first, float *second) {
    LAUNCH(update_kernel, blocks_for(count, THREADS), THREADS, s, *u, count, values, grad, first,
           second);
}

static __global__ void measure_kernel(size_t count, const float *grad, double *partial) {
    SHARED(double, part, THREADS + 16);
    double squares = 0, most = 0;
    for (size_t i = thread_number(); i < count; i += (size_t)CUDA_MEASURE_PARTS * THREADS) {
        squares += (double)grad[i] * grad[i];
        most = fmax(most, fabs((double)grad[i]));
    }
    squares = block_sum(squares, part);
    most = block_max(most, part);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = squares;
        partial[CUDA_MEASURE_PARTS + blockIdx.x] = most;
    }
}

/* One block. */
static __global__ void add_measures_kernel(size_t parts, const double *partial, double *measure) {
    SHARED(double, part, THREADS + 16);
    double squares = 0, most = 0;
    for (size_t k = threadIdx.x; k < parts; k += THREADS) {
        squares += partial[k];
        most = fmax(most, partial[CUDA_MEASURE_PARTS + k]);
    }
    squares = block_sum(squares, part);
    most = block_max(most, part);
    if (threadIdx.x == 0) {
        measure[0] += squares;
        measure[1] = fmax(measure[1], most);
    }
}
static void measure(cuda_stream s, size_t count, const float *grad, double *partial,
                    double *measure) {
    size_t parts = blocks_for(count, THREADS);
    if (parts > CUDA_MEASURE_PARTS)
        parts = CUDA_MEASURE_PARTS;
    LAUNCH(measure_kernel, parts, THREADS, s, count, grad, partial);
    LAUNCH(add_measures_kernel, 1, THREADS, s, parts, partial, measure);
}

static __global__ void clip_kernel(size_t count, float scale, float limit, float *grad) {
    size_t i = thread_number();
    if (i >= count)
        return;
    float g = grad[i] * scale;
    g = g > limit ? limit : g;
    grad[i] = g < -limit ? -limit : g;
}
static void clip(cuda_stream s, size_t count, float scale, float limit, float *grad) {
    LAUNCH(clip_kernel, blocks_for(count, THREADS), THREADS, s, count, scale, limit, grad);
}

static __global__ void average_kernel(size_t count, float fresh, const float *values,
                                      float *average) {
    size_t i = thread_number();
    if (i < count)
        average[i] += fresh * (values[i] - average[i]);
}
static void average(cuda_stream s, size_t count, float fresh, const float *values,
                    float *averages) {
    LAUNCH(average_kernel, blocks_for(count, THREADS), THREADS, s, count, fresh, values, averages);
}

static __global__ void add_kernel(size_t count, const float *x, float *out) {
    size_t i = thread_number();
    if (i < count)
        out[i] += x[i];
}
static void add(cuda_stream s, size_t count, const float *x, float *out) {
    LAUNCH(add_kernel, blocks_for(count, THREADS), THREADS, s, count, x, out);
}

void cuda_fill_params(struct cuda_kernels *table) {
    table->scale_outputs = scale_outputs;
    table->unfold = unfold;
    table->unfold_norm = unfold_norm;
    table->add = add;
    table->update = update;
    table->measure = measure;
    table->clip = clip;
    table->average = average;
}
