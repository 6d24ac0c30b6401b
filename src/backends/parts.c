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

enum dml_status dml_parts_first(const struct dml_batch_parts *parts, size_t count, float *values) {
    if (!parts)
        return DML_OK;
    float *all = dml_alloc((size_t)parts->count * count, sizeof *all);
    enum dml_status status =
        all ? parts->gather(parts->data, values, count * sizeof *all, all) : DML_ERROR_MEMORY;
    if (!status)
        memcpy(values, all, count * sizeof *all);
    free(all);
    return status;
}
