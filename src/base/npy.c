#include "base/npy.h"

#include "base/half.h"
#include "base/memory.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#if defined(__F16C__)
#include <immintrin.h>
#endif

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
                          "%s: has elements of type %.*s, which are not "
                          "little-endian numbers",
                          name, type ? (int)strcspn(type, ",}") : 1, type ? type : "?");
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

#if defined(__F16C__)
static float from_half(uint16_t bits) {
    return _cvtsh_ss(bits);
}
#else
static float from_half(uint16_t bits) {
    return (float)dml_half_value(bits);
}
#endif

/* Elements first, first + 1, ... of the stored sequence, to every `step`-th float of `out`. */
static void convert(const struct dml_npy *npy, size_t first, size_t count, float *out,
                    size_t step) {
    const char *at = (const char *)npy->data + first * types[npy->type].size;
#define CONVERT(type, function)                                                                    \
    for (size_t i = 0; i < count; i++) {                                                           \
        type value;                                                                                \
        memcpy(&value, at + i * sizeof value, sizeof value);                                       \
        out[i * step] = function(value);                                                           \
    }                                                                                              \
    break
    switch (npy->type) {
    case DML_NPY_BOOL:
    case DML_NPY_U8:
        CONVERT(uint8_t, (float));
    case DML_NPY_I8:
        CONVERT(int8_t, (float));
    case DML_NPY_I16:
        CONVERT(int16_t, (float));
    case DML_NPY_U16:
        CONVERT(uint16_t, (float));
    case DML_NPY_I32:
        CONVERT(int32_t, (float));
    case DML_NPY_U32:
        CONVERT(uint32_t, (float));
    case DML_NPY_I64:
        CONVERT(int64_t, (float));
    case DML_NPY_U64:
        CONVERT(uint64_t, (float));
    case DML_NPY_F16:
        CONVERT(uint16_t, from_half);
    case DML_NPY_F32:
        CONVERT(float, (float));
    case DML_NPY_F64:
        CONVERT(double, (float));
    }
#undef CONVERT
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

void dml_npy_rows(const struct dml_npy *npy, size_t first, size_t count, float *out) {
    enum { STRIP = 64 }; /* rows of a Fortran array that are turned together */
    size_t rows = npy->dim_count ? npy->dims[0] : 1, width = rows ? npy->count / rows : 0;
    if (!npy->fortran_order || npy->dim_count < 2) {
        convert(npy, first * width, count * width, out, 1);
    } else if (npy->dim_count == 2) {
        for (size_t r = 0; r < count; r += STRIP) {
            size_t strip = count - r < STRIP ? count - r : STRIP;
            for (size_t c = 0; c < width; c++)
                convert(npy, c * rows + first + r, strip, out + r * width + c, width);
        }
    } else {
        for (size_t i = 0; i < count * width; i++)
            convert(npy, stored_index(npy, first * width + i), 1, out + i, 1);
    }
}

enum dml_status dml_npy_floats(const struct dml_npy *npy, float **out) {
    *out = dml_alloc_aligned(npy->count, sizeof **out);
    if (!*out)
        return DML_ERROR_MEMORY;
    if (npy->count)
        dml_npy_rows(npy, 0, npy->dim_count ? npy->dims[0] : 1, *out);
    return DML_OK;
}

enum dml_status dml_npy_view(const struct dml_npy *npy, const float **view, float **owned) {
    bool plain = npy->type == DML_NPY_F32 && (!npy->fortran_order || npy->dim_count < 2) &&
                 (uintptr_t)npy->data % _Alignof(float) == 0;
    *owned = NULL;
    if (plain) {
        *view = npy->data;
        return DML_OK;
    }
    enum dml_status status = dml_npy_floats(npy, owned);
    *view = *owned;
    return status;
}

__int128 dml_npy_integer(const struct dml_npy *npy, size_t i) {
    const char *at = (const char *)npy->data + stored_index(npy, i) * types[npy->type].size;
    uint64_t bits = 0;
    memcpy(&bits, at, types[npy->type].size); /* little-endian, as the file */
    switch (npy->type) {
    case DML_NPY_I8:
        return (int8_t)bits;
    case DML_NPY_I16:
        return (int16_t)bits;
    case DML_NPY_I32:
        return (int32_t)bits;
    case DML_NPY_I64:
        return (int64_t)bits;
    default:
        return bits;
    }
}

bool dml_npy_is_integer(const struct dml_npy *npy) {
    return npy->type < DML_NPY_F16;
}

const char *dml_npy_type_name(enum dml_npy_type type) {
    static const char *const names[] = {"bool",   "int8",    "int16",   "int32",
                                        "int64",  "uint8",   "uint16",  "uint32",
                                        "uint64", "float16", "float32", "float64"};
    return names[type];
}

enum dml_status dml_npy_int32(const struct dml_npy *npy, int32_t **out) {
    if (!dml_npy_is_integer(npy))
        return dml_fail(DML_ERROR_INPUT, "holds %s where integers are needed",
                        dml_npy_type_name(npy->type));
    *out = dml_alloc_aligned(npy->count, sizeof **out);
    if (!*out)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < npy->count; i++) {
        __int128 value = dml_npy_integer(npy, i);
        if (value < INT32_MIN || value > INT32_MAX) {
            free(*out);
            *out = NULL;
            return dml_fail(DML_ERROR_INPUT, "holds %s%llu at index %zu, beyond 32 bits",
                            value < 0 ? "-" : "", (unsigned long long)(value < 0 ? -value : value),
                            i);
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
