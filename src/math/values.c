#include "math/values.h"

#include "math/linear.h"

double dml_dot64(const double *a, const double *b, size_t dim) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < dim; k++)
        sum += a[k] * b[k];
    return sum;
}

double dml_distance2_64(const double *a, const double *b, size_t dim) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < dim; k++) {
        double difference = a[k] - b[k];
        sum += difference * difference;
    }
    return sum;
}

double dml_values_dot(const struct dml_values *x, size_t a, const struct dml_values *y, size_t b,
                      size_t dim) {
    if (x->wide && y->wide)
        return dml_dot64(x->wide + a, y->wide + b, dim);
    if (!x->wide && !y->wide)
        return dml_dot(x->narrow + a, y->narrow + b, dim);
    double sum = 0;
    for (size_t k = 0; k < dim; k++)
        sum += dml_value(x, a + k) * dml_value(y, b + k);
    return sum;
}

double dml_values_distance2(const struct dml_values *x, size_t a, const struct dml_values *y,
                            size_t b, size_t dim) {
    if (x->wide && y->wide)
        return dml_distance2_64(x->wide + a, y->wide + b, dim);
    if (!x->wide && !y->wide)
        return dml_distance2(x->narrow + a, y->narrow + b, dim);
    double sum = 0;
    for (size_t k = 0; k < dim; k++) {
        double difference = dml_value(x, a + k) - dml_value(y, b + k);
        sum += difference * difference;
    }
    return sum;
}
