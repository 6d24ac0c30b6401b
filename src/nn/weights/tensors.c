#include "nn/weights/tensors.h"

#include "base/half.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "nn/weights/safetensors.h"
#include "nn/weights/torch_file.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[DML_DTYPE_COUNT] = {
    [DML_DTYPE_F64] = {"F64", 8},   [DML_DTYPE_F32] = {"F32", 4}, [DML_DTYPE_F16] = {"F16", 2},
    [DML_DTYPE_BF16] = {"BF16", 2}, [DML_DTYPE_I64] = {"I64", 8}, [DML_DTYPE_I32] = {"I32", 4},
    [DML_DTYPE_I16] = {"I16", 2},   [DML_DTYPE_I8] = {"I8", 1},   [DML_DTYPE_U8] = {"U8", 1},
    [DML_DTYPE_BOOL] = {"BOOL", 1},
};

size_t dml_dtype_size(enum dml_dtype dtype) {
    return dtypes[dtype].size;
}

const char *dml_dtype_name(enum dml_dtype dtype) {
    return dtypes[dtype].name;
}

/* What people have in place of weights. */
static const char *other_kind(const char *bytes, size_t size) {
    static const struct {
        const char *start, *kind;
    } kinds[] = {
        {"version https://git-lfs", "is a Git LFS pointer, not the file itself, which `git lfs "
                                    "pull` fetches"},
        {"<!DOCTYPE", "is a web page, not the file itself"},
        {"<!doctype", "is a web page, not the file itself"},
        {"<html", "is a web page, not the file itself"},
        {"\x1f\x8b", "is compressed by gzip; unpack it first"},
        {"\x93NUMPY", "is a .npy file: an array, not weights by name"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (size >= strlen(kinds[i].start) &&
            memcmp(bytes, kinds[i].start, strlen(kinds[i].start)) == 0)
            return kinds[i].kind;
    return "is neither a safetensors file nor one that torch.save wrote";
}

enum dml_status dml_tensors_parse(const void *bytes, size_t size, const char *name,
                                  struct dml_tensors *out) {
    memset(out, 0, sizeof *out);
    enum dml_status status;
    if (dml_torch_is_zip(bytes, size))
        status = dml_torch_parse_zip(bytes, size, name, out);
    else if (dml_torch_is_legacy(bytes, size))
        status = dml_torch_parse_legacy(bytes, size, name, out);
    else if (dml_safetensors_detect(bytes, size))
        status = dml_safetensors_parse(bytes, size, name, out);
    else
        status = dml_fail(DML_ERROR_INPUT, "%s: %s", name, other_kind(bytes, size));
    if (!status)
        status = dml_tensors_check_names(out, name);
    if (!status) {
        dml_tensors_unwrap(out);
        status = dml_tensors_check_names(out, name);
    }
    if (status)
        dml_tensors_free(out);
    return status;
}

enum dml_status dml_tensors_read(const char *path, struct dml_tensors *out) {
    struct dml_mapping mapping;
    memset(out, 0, sizeof *out);
    enum dml_status status = dml_map_file(path, &mapping);
    if (status)
        return status;
    status = dml_tensors_parse(mapping.data, mapping.size, path, out);
    if (status)
        dml_unmap_file(&mapping);
    out->mapping = mapping;
    return status;
}

enum dml_status dml_tensors_write(const char *path, const struct dml_tensors *tensors) {
    const char *dot = strrchr(path, '.');
    if (dot && strcmp(dot, ".safetensors") == 0)
        return dml_safetensors_write(path, tensors);
    if (dot && (strcmp(dot, ".pth") == 0 || strcmp(dot, ".pt") == 0))
        return dml_torch_write(path, tensors);
    return dml_fail(DML_ERROR_USAGE,
                    "%s: the format follows from the name, which must end in .safetensors, "
                    ".pth or .pt",
                    path);
}

void dml_tensors_free(struct dml_tensors *tensors) {
    for (size_t i = 0; i < tensors->count; i++) {
        free(tensors->items[i].name);
        free(tensors->items[i].owned);
    }
    for (size_t i = 0; i < tensors->note_count; i++) {
        free(tensors->notes[i].key);
        free(tensors->notes[i].value);
    }
    free(tensors->items);
    free(tensors->notes);
    free(tensors->remark);
    dml_unmap_file(&tensors->mapping);
    memset(tensors, 0, sizeof *tensors);
}

const struct dml_tensor *dml_tensors_find(const struct dml_tensors *tensors, const char *name) {
    for (size_t i = 0; i < tensors->count; i++)
        if (strcmp(tensors->items[i].name, name) == 0)
            return &tensors->items[i];
    return NULL;
}

static struct dml_tensor_note *find_note(const struct dml_tensors *tensors, const char *key) {
    for (size_t i = 0; i < tensors->note_count; i++)
        if (strcmp(tensors->notes[i].key, key) == 0)
            return &tensors->notes[i];
    return NULL;
}

const char *dml_tensors_note(const struct dml_tensors *tensors, const char *key) {
    struct dml_tensor_note *note = find_note(tensors, key);
    return note ? note->value : NULL;
}

bool dml_tensor_name_valid(const char *name, size_t length) {
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return false;
    return length <= 1000 && dml_utf8_valid(name, length);
}

enum dml_status dml_tensors_add_view(struct dml_tensors *tensors, const char *name,
                                     enum dml_dtype dtype, const size_t *dims, int dim_count,
                                     const void *data) {
    struct dml_tensor tensor = {.dtype = dtype, .dim_count = dim_count, .count = 1, .data = data};
    size_t bytes;
    if (dim_count > DML_TENSOR_MAX_DIMS)
        return dml_fail(DML_ERROR_INPUT, "tensor %s has %d axes, the most is %d", name, dim_count,
                        DML_TENSOR_MAX_DIMS);
    for (int d = 0; d < dim_count; d++) {
        tensor.dims[d] = dims[d];
        if (__builtin_mul_overflow(tensor.count, dims[d], &tensor.count))
            return dml_fail(DML_ERROR_INPUT, "tensor %s: its shape overflows", name);
    }
    if (__builtin_mul_overflow(tensor.count, dml_dtype_size(dtype), &bytes))
        return dml_fail(DML_ERROR_INPUT, "tensor %s: its shape overflows", name);
    enum dml_status status =
        dml_grow(&tensors->items, &tensors->capacity, tensors->count + 1, sizeof *tensors->items);
    if (status)
        return status;
    tensor.name = dml_strdup(name);
    if (!tensor.name)
        return DML_ERROR_MEMORY;
    tensors->items[tensors->count++] = tensor;
    return DML_OK;
}

enum dml_status dml_tensors_add(struct dml_tensors *tensors, const char *name, enum dml_dtype dtype,
                                const size_t *dims, int dim_count, void **data) {
    enum dml_status status = dml_tensors_add_view(tensors, name, dtype, dims, dim_count, NULL);
    if (status)
        return status;
    struct dml_tensor *tensor = &tensors->items[tensors->count - 1];
    tensor->owned = dml_alloc(tensor->count, dml_dtype_size(dtype));
    if (!tensor->owned) {
        free(tensor->name);
        tensors->count--;
        return DML_ERROR_MEMORY;
    }
    tensor->data = *data = tensor->owned;
    return DML_OK;
}

enum dml_status dml_tensors_set_note(struct dml_tensors *tensors, const char *key,
                                     const char *value) {
    char *copy = dml_strdup(value);
    if (!copy)
        return DML_ERROR_MEMORY;
    dml_utf8_repair(copy);
    struct dml_tensor_note *note = find_note(tensors, key);
    if (note) {
        free(note->value);
        note->value = copy;
        return DML_OK;
    }
    char *name = dml_strdup(key);
    if (!name || dml_grow(&tensors->notes, &tensors->note_capacity, tensors->note_count + 1,
                          sizeof *tensors->notes)) {
        free(name);
        free(copy);
        return DML_ERROR_MEMORY;
    }
    tensors->notes[tensors->note_count++] = (struct dml_tensor_note){name, copy};
    return DML_OK;
}

static float element(enum dml_dtype dtype, const char *at) {
    union {
        double f64;
        float f32;
        uint16_t bits16;
        int64_t i64;
        int32_t i32;
        int16_t i16;
        int8_t i8;
        uint8_t u8;
    } value = {0};
    memcpy(&value, at, dml_dtype_size(dtype));
    switch (dtype) {
    case DML_DTYPE_F64:
        return (float)value.f64;
    case DML_DTYPE_F32:
        return value.f32;
    case DML_DTYPE_F16:
        return (float)dml_half_value(value.bits16);
    case DML_DTYPE_BF16:
        return dml_bfloat16_value(value.bits16);
    case DML_DTYPE_I64:
        return (float)value.i64;
    case DML_DTYPE_I32:
        return (float)value.i32;
    case DML_DTYPE_I16:
        return value.i16;
    case DML_DTYPE_I8:
        return value.i8;
    case DML_DTYPE_U8:
        return value.u8;
    case DML_DTYPE_BOOL:
        return value.u8 != 0;
    case DML_DTYPE_COUNT:
        break;
    }
    return 0;
}

void dml_tensor_floats(const struct dml_tensor *tensor, float *out) {
    if (tensor->count == 0)
        return;
    if (tensor->dtype == DML_DTYPE_F32) {
        memcpy(out, tensor->data, tensor->count * sizeof *out);
        return;
    }
    size_t size = dml_dtype_size(tensor->dtype);
    for (size_t i = 0; i < tensor->count; i++)
        out[i] = element(tensor->dtype, (const char *)tensor->data + i * size);
}

const char *dml_shape_text(const size_t *dims, int dim_count, char text[DML_SHAPE_TEXT]) {
    size_t used = (size_t)snprintf(text, DML_SHAPE_TEXT, "(");
    for (int d = 0; d < dim_count; d++)
        used += (size_t)snprintf(text + used, DML_SHAPE_TEXT - used, d ? ", %zu" : "%zu", dims[d]);
    snprintf(text + used, DML_SHAPE_TEXT - used, ")");
    return text;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum dml_status dml_tensors_check_names(const struct dml_tensors *tensors, const char *file) {
    enum dml_status status = DML_OK;
    char **names = dml_alloc(tensors->count, sizeof *names);
    if (!names)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < tensors->count; i++)
        names[i] = tensors->items[i].name;
    qsort(names, tensors->count, sizeof *names, by_name);
    for (size_t i = 1; i < tensors->count && !status; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            status = dml_fail(DML_ERROR_INPUT, "%s: has two tensors called %.200s", file, names[i]);
    free(names);
    return status;
}
