#ifndef DML_CPU_ERF_H
#define DML_CPU_ERF_H

/* The error function without branches or calls, so that a loop over it (`#pragma omp simd`) becomes
 * vector code: a rational function of x^2 within +-3.92, where erf is 1 minus half a unit in the
 * last place. Absolute error below 5e-7 (tests/test_transformer_operations.c). */
static inline float cpu_erf(float x) {
    const float most = 3.92f;
    float t = x > most ? most : x;
    t = t < -most ? -most : t;
    float t2 = t * t;
    float p = -2.72614225801306e-10f;
    p = p * t2 + 2.77068142495902e-08f;
    p = p * t2 - 2.10102402082508e-06f;
    p = p * t2 - 5.69250639462346e-05f;
    p = p * t2 - 7.34990630326855e-04f;
    p = p * t2 - 2.95459980854025e-03f;
    p = p * t2 - 1.60960333262415e-02f;
    float q = -1.45660718464996e-05f;
    q = q * t2 - 2.13374055278905e-04f;
    q = q * t2 - 1.68282697438203e-03f;
    q = q * t2 - 7.37332916720468e-03f;
    q = q * t2 - 1.42647390514189e-02f;
    return t * p / q;
}

#endif
