#include "backends/cpu/kernels.h"

#include "math/linear.h"

#include <math.h>

void cpu_l2_normalize(size_t n, size_t dim, size_t stride, const float *x, float *y, float *norms) {
    for (size_t i = 0; i < n; i++) {
        norms[i] = (float)fmax(sqrt(dml_dot(x + i * stride, x + i * stride, dim)), 1e-12);
        for (size_t k = 0; k < dim; k++)
            y[i * stride + k] = x[i * stride + k] / norms[i];
        for (size_t k = dim; k < stride; k++)
            y[i * stride + k] = 0.0f;
    }
}

void cpu_l2_normalize_gradient(size_t n, size_t dim, size_t stride, const float *grad,
                               const float *y, const float *norms, float *grad_x) {
    for (size_t i = 0; i < n; i++) {
        const float *g = grad + i * stride, *unit = y + i * stride;
        double along = dml_dot(g, unit, dim);
        if (norms[i] <= 1e-12f) /* below the clamp the norm is a constant */
            along = 0;
        for (size_t k = 0; k < dim; k++)
            grad_x[i * stride + k] = (float)((g[k] - along * unit[k]) / norms[i]);
        for (size_t k = dim; k < stride; k++)
            grad_x[i * stride + k] = 0.0f;
    }
}
