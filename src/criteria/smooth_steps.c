#include "criteria/smooth_steps.h"

#include "math/transcendental.h"

void dml_smooth_steps(const double *c, size_t i, size_t m, double temperature, double *restrict h,
                      double *restrict slope) {
    const double at = c[i], inverse = 1 / temperature;
#pragma omp simd
    for (size_t j = 0; j < m; j++) {
        double z = inverse * (c[j] - at), e = dml_exp64(z < 0 ? z : -z), r = 1 / (1 + e);
        h[j] = z < 0 ? e * r : r;
        slope[j] = inverse * e * r * r;
    }
    h[i] = slope[i] = 0;
}

double dml_steps_sum(const double *h, const uint8_t *relations, enum dml_relation relation,
                     size_t m) {
    const uint8_t wanted = (uint8_t)relation;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < m; j++)
        sum += relations[j] == wanted ? h[j] : 0;
    return sum;
}

void dml_steps_pull(const double *slope, const uint8_t *relations, enum dml_relation relation,
                    double weight, size_t i, size_t m, double *restrict pull) {
    const uint8_t wanted = (uint8_t)relation;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < m; j++) {
        double force = relations[j] == wanted ? weight * slope[j] : 0;
        pull[j] += force;
        sum += force;
    }
    pull[i] -= sum;
}
