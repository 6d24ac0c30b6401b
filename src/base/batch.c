#include "base/batch.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

static bool all_finite(const float *values, size_t count) {
    int bad = 0;
#pragma omp simd reduction(| : bad)
    for (size_t i = 0; i < count; i++)
        bad |= !(fabsf(values[i]) <= FLT_MAX);
    return !bad;
}

enum dml_status dml_batch_check(const struct dml_batch *batch, size_t dim, size_t classes) {
    if (batch->n == 0 || batch->n > INT32_MAX)
        return dml_fail(DML_ERROR_INPUT, "the batch has %zu embeddings", batch->n);
    if (batch->dim == 0)
        return dml_fail(DML_ERROR_INPUT, "the embeddings have 0 dimensions");
    if (batch->dim != dim)
        return dml_fail(DML_ERROR_INPUT,
                        "the embeddings have %zu dimensions where %zu are expected", batch->dim,
                        dim);
    if (!batch->embeddings || !batch->labels)
        return dml_fail(DML_ERROR_INPUT, "the batch has no %s: its pointer is NULL",
                        batch->embeddings ? "labels" : "embeddings");
    for (size_t i = 0; i < batch->n; i++) {
        int32_t label = batch->labels[i];
        if (label < 0 || (classes && (size_t)label >= classes))
            return dml_fail(DML_ERROR_INPUT,
                            "label %d of embedding %zu is not one of the classes 0 to %zu", label,
                            i, classes ? classes - 1 : (size_t)INT32_MAX);
    }
    for (size_t i = 0; i < batch->n; i++) {
        const float *row = batch->embeddings + i * dim;
        if (all_finite(row, dim))
            continue;
        size_t k = 0;
        while (fabsf(row[k]) <= FLT_MAX)
            k++;
        return dml_fail(DML_ERROR_INPUT, "embedding %zu is not finite: component %zu is %g", i, k,
                        isnan(row[k]) ? fabsf(row[k]) : row[k]); /* printf tells nan from -nan */
    }
    return DML_OK;
}
