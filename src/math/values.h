#ifndef DML_MATH_VALUES_H
#define DML_MATH_VALUES_H

#include <stddef.h>

/* Embeddings (n, dim) in float32, or in float64 where float32 cannot tell them apart: `wide` is
 * what counts if it is there. */
struct dml_values {
    const float *narrow;
    const double *wide;
};

/* Number `i` of all. Which array it comes from does not change within a loop. */
static inline double dml_value(const struct dml_values *values, size_t i) {
    return values->wide ? values->wide[i] : (double)values->narrow[i];
}

static inline int dml_values_any(const struct dml_values *values) {
    return values->wide || values->narrow;
}

/* Sums in float64 over the products and the squared differences of two rows: the one that begins at
 * number `a` of x, and the one at number `b` of y. */
double dml_values_dot(const struct dml_values *x, size_t a, const struct dml_values *y, size_t b,
                      size_t dim);
double dml_values_distance2(const struct dml_values *x, size_t a, const struct dml_values *y,
                            size_t b, size_t dim);

/* In float64. */
double dml_dot64(const double *a, const double *b, size_t dim);
double dml_distance2_64(const double *a, const double *b, size_t dim);

#endif
