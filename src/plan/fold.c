#include "plan/fold.h"

#include <math.h>

void plan_norm_affine(const struct plan_norm *norm, float *scale, float *shift, size_t padded) {
    for (size_t c = 0; c < padded; c++) {
        double factor = 0, offset = 0;
        if (c < norm->channels) {
            factor = norm->weight[c] / sqrt(norm->variance[c] + norm->epsilon);
            offset = norm->bias[c] - norm->mean[c] * factor;
        }
        scale[c] = (float)factor;
        shift[c] = (float)offset;
    }
}

void plan_norm_scale(const struct plan_norm *norm, float *scale) {
    for (size_t c = 0; c < norm->channels; c++)
        scale[c] = (float)(norm->weight[c] / sqrt(norm->variance[c] + norm->epsilon));
}

void plan_norm_gradients(const struct plan_norm *norm, const struct plan_folded_grads *folded,
                         float *grad_weight, float *grad_shift, float *grad_bias) {
    for (size_t c = 0; c < norm->channels; c++) {
        double bias = folded->bias ? folded->bias[c] : 0.0;
        double s = sqrt(norm->variance[c] + norm->epsilon);
        grad_weight[c] =
            (float)((folded->dots[c] + (bias - norm->mean[c]) * folded->grad_bias[c]) / s);
        grad_shift[c] = folded->grad_bias[c];
        if (folded->bias)
            grad_bias[c] = (float)((double)folded->grad_bias[c] * folded->scale[c]);
    }
}
