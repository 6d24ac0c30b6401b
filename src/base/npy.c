#include "base/npy.h"

#include "base/half.h"
#include "base/memory.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *code;
    size_t size;
} types[] = {
    [DML_NPY_BOOL] = {"b1", 1}, [DML_NPY_I8] = {"i1", 1},  [DML_NPY_I16] = {"i2", 2},
    [DML_NPY_I32] = {"i4", 4},  [DML_NPY_I64] = {"i8", 8}, [DML_NPY_U8] = {"u1", 1},
    [DML_NPY_U16] = {"u2", 2},  [DML_NPY_U32] = {"u4", 4}, [DML_NPY_U64] = {"u8", 8},
    [DML_NPY_F16] = {"f2", 2},  [DML_NPY_F32] = {"f4", 4}, [DML_NPY_F64] = {"f8", 8},
};
enum { TYPE_COUNT = sizeof types / sizeof types[0] };

/* The text behind 'key': in the header's dict, or NULL. */
static const char *value_of(const char *header, const char *key) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(header, quoted);
    if (!at)
        return NULL;
    at += strlen(quoted);
    while (*at == ' ')
        at++;
    return at;
}

static bool parse_type(const char *text, enum dml_npy_type *out) {
    if (!text || text[0] != '\'' || !text[1] || !strchr("<|=", text[1]))
        return false;
    for (int i = 0; i < TYPE_COUNT; i++)
        if (strncmp(text + 2, types[i].code, 2) == 0 && text[4] == '\'') {
            *out = (enum dml_npy_type)i;
            return true;
        }
    return false;
}

static bool parse_shape(const char *at, struct dml_npy *out) {
    if (!at || *at++ != '(')
        return false;
    out->count = 1;
    for (;;) {
        while (*at == ' ' || *at == ',')
            at++;
        if (*at == ')')
            return true;
        if (!isdigit((unsigned char)*at) || out->dim_count == 8)
            return false;
        char *end;
        errno = 0;
        unsigned long long dim = strtoull(at, &end, 10);
        if (errno || __builtin_mul_overflow(out->count, dim, &out->count))
            return false;
        out->dims[out->dim_count++] = dim;
        at = *end == 'L' ? end + 1 : end;
    }
}

enum dml_status dml_npy_parse(const void *bytes, size_t size, const char *name,
                              struct dml_npy *out) {
    const unsigned char *data = bytes;
    memset(out, 0, sizeof *out);
    if (size < 12 || memcmp(data, "\x93NUMPY", 6) != 0 || data[6] < 1 || data[6] > 3)
        return dml_fail(DML_ERROR_INPUT, "%s: is not a .npy file", name);
    size_t start = data[6] == 1 ? 10 : 12;
    size_t length = data[8] | (size_t)data[9] << 8;
    if (data[6] > 1)
        length |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
    if (length > size - start)
        return dml_fail(DML_ERROR_INPUT, "%s: is cut short inside its header", name);
    char *header = dml_alloc(length + 1, 1);
    if (!header)
        return DML_ERROR_MEMORY;
    memcpy(header, data + start, length);

    enum dml_status status = DML_OK;
    const char *order = value_of(header, "fortran_order");
    const char *type = value_of(header, "descr");
    if (!parse_type(type, &out->type))
        status = dml_fail(DML_ERROR_INPUT,
                          "%s: has elements of type %.12s, which is not a "
                          "little-endian number",
                          name, type ? type : "?");
    else if (!order || !parse_shape(value_of(header, "shape"), out))
        status = dml_fail(DML_ERROR_INPUT, "%s: has a malformed .npy header", name);
    else {
        size_t need, left = size - start - length;
        out->fortran_order = strncmp(order, "True", 4) == 0;
        if (__builtin_mul_overflow(out->count, types[out->type].size, &need) || need > left)
            status = dml_fail(DML_ERROR_INPUT,
                              "%s: is cut short: its shape asks for %zu elements "
                              "of %zu bytes, it has %zu bytes",
                              name, out->count, types[out->type].size, left);
        out->data = data + start + length;
    }
    free(header);
    return status;
}

enum dml_status dml_npy_open(const char *path, struct dml_npy *out) {
    struct dml_mapping mapping;
    enum dml_status status = dml_map_file(path, &mapping);
    if (status)
        return status;
    status = dml_npy_parse(mapping.data, mapping.size, path, out);
    if (status)
        dml_unmap_file(&mapping);
    out->mapping = mapping;
    return status;
}

void dml_npy_close(struct dml_npy *npy) {
    dml_unmap_file(&npy->mapping);
    memset(npy, 0, sizeof *npy);
}

/* Element i of the stored sequence; integers beyond 2^53 lose low bits, labels never are. */
static double element(const struct dml_npy *npy, size_t i) {
    const char *at = (const char *)npy->data + i * types[npy->type].size;
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        float f32;
        double f64;
    } value;
    memcpy(&value, at, types[npy->type].size);
    switch (npy->type) {
    case DML_NPY_BOOL:
    case DML_NPY_U8:
        return value.u8;
    case DML_NPY_I8:
        return value.i8;
    case DML_NPY_I16:
        return value.i16;
    case DML_NPY_U16:
        return value.u16;
    case DML_NPY_I32:
        return value.i32;
    case DML_NPY_U32:
        return value.u32;
    case DML_NPY_I64:
        return (double)value.i64;
    case DML_NPY_U64:
        return (double)value.u64;
    case DML_NPY_F16:
        return dml_half_value(value.u16);
    case DML_NPY_F32:
        return value.f32;
    case DML_NPY_F64:
        return value.f64;
    }
    return 0;
}

/* Where element i in C order stands in the stored sequence. */
static size_t stored_index(const struct dml_npy *npy, size_t i) {
    if (!npy->fortran_order || npy->dim_count < 2)
        return i;
    size_t at = 0, stride = npy->count;
    for (int d = npy->dim_count; d-- > 0;) {
        stride /= npy->dims[d];
        at += i % npy->dims[d] * stride;
        i /= npy->dims[d];
    }
    return at;
}

enum dml_status dml_npy_floats(const struct dml_npy *npy, float **out) {
    *out = dml_alloc_aligned(npy->count, sizeof **out);
    if (!*out)
        return DML_ERROR_MEMORY;
    if (npy->type == DML_NPY_F32 && !npy->fortran_order) {
        memcpy(*out, npy->data, npy->count * sizeof **out);
        return DML_OK;
    }
    for (size_t i = 0; i < npy->count; i++)
        (*out)[i] = (float)element(npy, stored_index(npy, i));
    return DML_OK;
}

enum dml_status dml_npy_int32(const struct dml_npy *npy, int32_t **out) {
    if (npy->type >= DML_NPY_F16)
        return dml_fail(DML_ERROR_INPUT, "holds floating-point numbers where integers are needed");
    *out = dml_alloc_aligned(npy->count, sizeof **out);
    if (!*out)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < npy->count; i++) {
        double value = element(npy, stored_index(npy, i));
        if (value < INT32_MIN || value > INT32_MAX) {
            free(*out);
            *out = NULL;
            return dml_fail(DML_ERROR_INPUT, "holds %.0f at index %zu, beyond 32 bits", value, i);
        }
        (*out)[i] = (int32_t)value;
    }
    return DML_OK;
}

enum dml_status dml_npy_write(const char *path, enum dml_npy_type type, const void *data,
                              const size_t *dims, int dim_count) {
    char shape[256] = "";
    size_t used = 0, count = 1;
    for (int d = 0; d < dim_count; d++) {
        used += (size_t)snprintf(shape + used, sizeof shape - used, "%zu,%s", dims[d],
                                 d + 1 < dim_count ? " " : "");
        count *= dims[d];
    }
    char header[400];
    const char *mark = types[type].size == 1 ? "|" : "<";
    int length = snprintf(header, sizeof header,
                          "{'descr': '%s%s', 'fortran_order': False, 'shape': (%s), }", mark,
                          types[type].code, shape);
    while ((10 + length + 1) % 64 != 0)
        header[length++] = ' ';
    header[length++] = '\n';

    struct dml_output output;
    enum dml_status status = dml_output_open(&output, path);
    if (status)
        return status;
    const unsigned char start[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)length, (unsigned char)(length >> 8)};
    fwrite(start, 1, sizeof start, output.file);
    fwrite(header, 1, (size_t)length, output.file);
    fwrite(data, types[type].size, count, output.file);
    return dml_output_commit(&output);
}
