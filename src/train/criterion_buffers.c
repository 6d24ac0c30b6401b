#include "train/criterion_buffers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 16 * DML_OBJECTIVE_TERMS };

enum dml_status dml_criterion_buffers_add(struct dml_objective *objective, bool all,
                                          struct dml_tensors *tensors) {
    struct dml_criterion_buffer buffers[MOST];
    size_t count = dml_objective_buffers(objective, buffers, MOST);
    enum dml_status status = DML_OK;
    for (size_t i = 0; !status && i < count; i++) {
        const struct dml_criterion_buffer *b = &buffers[i];
        char name[200];
        snprintf(name, sizeof name, "criterion.%s", b->name);
        const void *data = b->floats ? (const void *)b->floats : b->ints;
        if (all || !b->transient)
            status = dml_tensors_add_view(tensors, name, b->floats ? DML_DTYPE_F32 : DML_DTYPE_I32,
                                          b->dims, b->dims[1] == 1 ? 1 : 2, data);
    }
    return status;
}

/* The values of a tensor, which need not be aligned. */
static enum dml_status take(const struct dml_tensor *tensor, const struct dml_criterion_buffer *b,
                            const char *path) {
    for (size_t k = 0; k < tensor->count; k++) {
        int32_t whole = 0;
        float value = 0;
        memcpy(b->floats ? (void *)&value : &whole, (const char *)tensor->data + 4 * k, 4);
        if (!isfinite(value) || (b->ints && (whole < b->least || whole > b->most)))
            return dml_fail(DML_ERROR_INPUT, "%s: %s holds an impossible value at %zu", path,
                            tensor->name, k);
    }
    memcpy(b->floats ? (void *)b->floats : b->ints, tensor->data, 4 * tensor->count);
    return DML_OK;
}

enum dml_status dml_criterion_buffers_take(struct dml_objective *objective, const char *path,
                                           const struct dml_tensors *tensors) {
    struct dml_criterion_buffer buffers[MOST];
    size_t count = dml_objective_buffers(objective, buffers, MOST);
    enum dml_status status = DML_OK;
    for (size_t i = 0; !status && i < count; i++) {
        const struct dml_criterion_buffer *b = &buffers[i];
        char name[200];
        snprintf(name, sizeof name, "criterion.%s", b->name);
        const struct dml_tensor *tensor = dml_tensors_find(tensors, name);
        if (!tensor || tensor->count != b->dims[0] * b->dims[1] ||
            tensor->dtype != (b->floats ? DML_DTYPE_F32 : DML_DTYPE_I32))
            return dml_fail(DML_ERROR_INPUT, "%s: has no %s: it is not the state of such a run",
                            path, name);
        status = take(tensor, b, path);
    }
    return status;
}
