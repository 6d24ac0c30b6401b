#include "math/descent.h"

#include <math.h>
#include <string.h>

/* Blocks are fixed, so that the sum does not depend on the threads. */
void dml_gradient_measure(const float *grads, size_t n, double *squares, double *largest) {
    enum { BLOCK = 1 << 14, BATCH = 256 };
    size_t blocks = (n + BLOCK - 1) / BLOCK;
    double part[BATCH];
    float top[BATCH];
    for (size_t first = 0; first < blocks; first += BATCH) {
        size_t count = blocks - first < BATCH ? blocks - first : BATCH;
#pragma omp parallel for schedule(static)
        for (size_t b = 0; b < count; b++) {
            size_t start = (first + b) * BLOCK;
            size_t end = start + BLOCK < n ? start + BLOCK : n;
            double sum = 0;
            float most = 0;
#pragma omp simd reduction(+ : sum) reduction(max : most)
            for (size_t i = start; i < end; i++) {
                float g = grads[i];
                sum += (double)g * g;
                most = fabsf(g) > most ? fabsf(g) : most;
            }
            part[b] = sum;
            top[b] = most;
        }
        for (size_t b = 0; b < count; b++) {
            *squares += part[b];
            *largest = fmax(*largest, top[b]);
        }
    }
}

void dml_gradient_clip(float *grads, size_t n, double scale, double limit) {
    const float factor = (float)scale, most = (float)limit;
#pragma omp parallel for simd schedule(static) if (n > 16384)
    for (size_t i = 0; i < n; i++) {
        float g = grads[i] * factor;
        g = g > most ? most : g;
        grads[i] = g < -most ? -most : g;
    }
}

double dml_gradient_scale(double norm, double largest) {
    return fmin(1, largest / (norm + 1e-6));
}

/* By the difference, so that an average of equal values stays that value: decay and 1 - decay
 * rounded to float32 do not add up to 1. */
void dml_moving_average(float *restrict average, const float *restrict values, size_t n,
                        double decay) {
    const float fresh = (float)(1.0 - decay);
    if (decay == 0) {
        memcpy(average, values, n * sizeof *average);
        return;
    }
#pragma omp parallel for simd schedule(static) if (n > 16384)
    for (size_t i = 0; i < n; i++)
        average[i] += fresh * (values[i] - average[i]);
}
