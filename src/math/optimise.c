#include "math/optimise.h"

#include <math.h>

static void adam(const struct dml_optimiser_step *step, float *restrict values,
                 const float *restrict grad, float *restrict moment1, float *restrict moment2,
                 size_t n) {
    const float decay = (float)step->decay, epsilon = (float)step->epsilon;
    const float beta1 = (float)step->beta1, beta2 = (float)step->beta2;
    const float fresh1 = (float)(1.0 - step->beta1), fresh2 = (float)(1.0 - step->beta2);
    /* Bias corrections, in float64 as PyTorch takes them on the host. */
    const float rate = (float)(step->lr / (1.0 - pow(step->beta1, (double)step->step)));
    const float root = (float)(1.0 / sqrt(1.0 - pow(step->beta2, (double)step->step)));
#pragma omp parallel for simd schedule(static) if (n > 16384)
    for (size_t i = 0; i < n; i++) {
        float g = grad[i] + decay * values[i];
        float m = beta1 * moment1[i] + fresh1 * g;
        float v = beta2 * moment2[i] + fresh2 * g * g;
        moment1[i] = m;
        moment2[i] = v;
        values[i] -= rate * m / (sqrtf(v) * root + epsilon);
    }
}

static void sgd(const struct dml_optimiser_step *step, float *restrict values,
                const float *restrict grad, float *restrict moment, size_t n) {
    const float decay = (float)step->decay, momentum = (float)step->momentum;
    const float rate = (float)step->lr;
#pragma omp parallel for simd schedule(static) if (n > 16384)
    for (size_t i = 0; i < n; i++) {
        float m = momentum * moment[i] + grad[i] + decay * values[i];
        moment[i] = m;
        values[i] -= rate * m;
    }
}

void dml_optimiser_update(const struct dml_optimiser_step *step, float *values, const float *grad,
                          float *moment1, float *moment2, size_t n) {
    if (step->kind == DML_ADAM)
        adam(step, values, grad, moment1, moment2, n);
    else
        sgd(step, values, grad, moment1, n);
}
