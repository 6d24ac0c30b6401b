#include "backends/parts.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum dml_status dml_parts_sums(const struct dml_batch_parts *parts, size_t count, double *values) {
    if (!parts)
        return DML_OK;
    double *all = dml_alloc((size_t)parts->count * count, sizeof *all);
    enum dml_status status =
        all ? parts->gather(parts->data, values, count * sizeof *all, all) : DML_ERROR_MEMORY;
    if (!status)
        memset(values, 0, count * sizeof *values);
    for (size_t p = 0; !status && p < (size_t)parts->count; p++)
        for (size_t i = 0; i < count; i++)
            values[i] += all[p * count + i];
    free(all);
    return status;
}

/* The variance of the batch is the mean of the parts' variances and of their means' squared
 * distances from its mean: no difference of large numbers. Chan, Golub and LeVeque 1979, Updating
 * formulae and a pairwise algorithm for computing sample variances. */
enum dml_status dml_parts_statistics(const struct dml_batch_parts *parts, size_t channels,
                                     float *mean, float *variance) {
    if (!parts)
        return DML_OK;
    size_t count = (size_t)parts->count, size = 2 * channels;
    float *own = dml_alloc(size, sizeof *own), *all = dml_alloc(count * size, sizeof *all);
    enum dml_status status = own && all ? DML_OK : DML_ERROR_MEMORY;
    if (!status) {
        memcpy(own, mean, channels * sizeof *own);
        memcpy(own + channels, variance, channels * sizeof *own);
        status = parts->gather(parts->data, own, size * sizeof *own, all);
    }
    for (size_t c = 0; !status && c < channels; c++) {
        double sum = 0, squares = 0;
        for (size_t p = 0; p < count; p++)
            sum += all[p * size + c];
        double centre = sum / (double)count;
        for (size_t p = 0; p < count; p++) {
            double distance = all[p * size + c] - centre;
            squares += all[p * size + channels + c] + distance * distance;
        }
        mean[c] = (float)centre;
        variance[c] = (float)(squares / (double)count);
    }
    free(own);
    free(all);
    return status;
}
