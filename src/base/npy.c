#include "base/npy.h"

#include "base/half.h"
#include "base/memory.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
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

static const char *after_blanks(const char *text) {
    return text + strspn(text, " \t\r\n");
}

/* The text after 'key': in the header's dict, or NULL. */
static const char *value_of(const char *header, const char *key) {
    const char *at = header;
    size_t length = strlen(key);
    while ((at = strstr(at, key))) {
        const char *after = at + length;
        bool quoted = at > header && strchr("'\"", at[-1]) && *after == at[-1];
        at = after;
        if (!quoted)
            continue;
        at = after_blanks(at + 1);
        if (*at != ':')
            continue;
        return after_blanks(at + 1);
    }
    return NULL;
}

/* 'f4' without a byte order is the machine's. */
static bool parse_type(const char *text, struct dml_npy *out) {
    if (!text || !*text || !strchr("'\"", *text) || !text[1])
        return false;
    const char *code = text + (strchr("<>|=", text[1]) ? 2 : 1);
    for (int i = 0; i < TYPE_COUNT; i++)
        if (strncmp(code, types[i].code, 2) == 0 && code[2] == text[0]) {
            out->type = (enum dml_npy_type)i;
            out->swapped = text[1] == '>' && types[i].size > 1;
            return true;
        }
    return false;
}

/* What elements are if not numbers of one of the types above. */
static const char *name_type(const char *text) {
    static const struct {
        const char *code, *name;
    } known[] = {
        {"c8'", "complex64"},
        {"c16'", "complex128"},
        {"f16'", "float128 (long double), whose layout depends on the machine"},
        {"f12'", "float96 (long double), whose layout depends on the machine"},
        {"O", "Python objects"},
        {"U", "text"},
        {"S", "bytes"},
        {"M", "dates (datetime64)"},
        {"m", "durations (timedelta64)"},
        {"V", "raw bytes (void)"},
    };
    if (text && *text == '[')
        return "a structured type of several fields";
    for (size_t i = 0; text && *text && text[1] && i < sizeof known / sizeof known[0]; i++)
        if (strncmp(text + 2, known[i].code, strlen(known[i].code)) == 0)
            return known[i].name;
    return "an unknown type";
}

static bool parse_shape(const char *at, struct dml_npy *out) {
    if (!at || *at++ != '(')
        return false;
    out->count = 1;
    for (;;) {
        at += strspn(at, " \t\r\n,");
        if (*at == ')')
            return true;
        if (!isdigit((unsigned char)*at) || out->dim_count == DML_NPY_MAX_DIMS)
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
    if (size >= 4 && memcmp(data, "PK\3\4", 4) == 0)
        return dml_fail(
            DML_ERROR_INPUT,
            "%s: is an .npz archive of arrays; save one of them as .npy, with numpy.save", name);
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
    if (!parse_type(type, out))
        status =
            dml_fail(DML_ERROR_INPUT, "%s: has elements of %s, not real numbers (descr %.*s)", name,
                     name_type(type), type ? (int)strcspn(type, ",}\n") : 1, type ? type : "?");
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

/* Converts `count` elements at `at` to every `step`-th number of `out`, float or double. */
#define CONVERT(type, function)                                                                    \
    for (size_t i = 0; i < count; i++) {                                                           \
        type value;                                                                                \
        memcpy(&value, at + i * sizeof value, sizeof value);                                       \
        out[i * step] = function(value);                                                           \
    }                                                                                              \
    break
#define CONVERT_ALL(name, real)                                                                    \
    static void name(enum dml_npy_type type, const char *at, size_t count, real *out,              \
                     size_t step) {                                                                \
        switch (type) {                                                                            \
        case DML_NPY_BOOL:                                                                         \
        case DML_NPY_U8:                                                                           \
            CONVERT(uint8_t, (real));                                                              \
        case DML_NPY_I8:                                                                           \
            CONVERT(int8_t, (real));                                                               \
        case DML_NPY_I16:                                                                          \
            CONVERT(int16_t, (real));                                                              \
        case DML_NPY_U16:                                                                          \
            CONVERT(uint16_t, (real));                                                             \
        case DML_NPY_I32:                                                                          \
            CONVERT(int32_t, (real));                                                              \
        case DML_NPY_U32:                                                                          \
            CONVERT(uint32_t, (real));                                                             \
        case DML_NPY_I64:                                                                          \
            CONVERT(int64_t, (real));                                                              \
        case DML_NPY_U64:                                                                          \
            CONVERT(uint64_t, (real));                                                             \
        case DML_NPY_F16:                                                                          \
            CONVERT(uint16_t, (real)from_half);                                                    \
        case DML_NPY_F32:                                                                          \
            CONVERT(float, (real));                                                                \
        case DML_NPY_F64:                                                                          \
            CONVERT(double, (real));                                                               \
        }                                                                                          \
    }
CONVERT_ALL(to_float, float)
CONVERT_ALL(to_double, double)
#undef CONVERT_ALL
#undef CONVERT

/* Where converted numbers go. */
struct target {
    void *out;
    bool wide; /* double instead of float */
};

static void *target_at(const struct target *to, size_t i) {
    return to->wide ? (void *)((double *)to->out + i) : (void *)((float *)to->out + i);
}

static void convert_plain(const struct dml_npy *npy, const char *at, size_t count,
                          const struct target *to, size_t place, size_t step) {
    if (to->wide)
        to_double(npy->type, at, count, target_at(to, place), step);
    else
        to_float(npy->type, at, count, target_at(to, place), step);
}

/* Converts elements first, first + 1, ... of the stored sequence, to `place` and every `step`-th
 * number after it. */
static void convert(const struct dml_npy *npy, size_t first, size_t count, const struct target *to,
                    size_t place, size_t step) {
    enum { CHUNK = 256 };
    size_t width = types[npy->type].size;
    const char *at = (const char *)npy->data + first * width;
    if (!npy->swapped) {
        convert_plain(npy, at, count, to, place, step);
        return;
    }
    char turned[CHUNK * 8];
    for (size_t done = 0; done < count; done += CHUNK) {
        size_t part = count - done < CHUNK ? count - done : CHUNK;
        for (size_t i = 0; i < part; i++)
            for (size_t b = 0; b < width; b++)
                turned[i * width + b] = at[(done + i) * width + width - 1 - b];
        convert_plain(npy, turned, part, to, place + done * step, step);
    }
}

/* Where element i in C order is in the stored sequence. */
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

static void convert_rows(const struct dml_npy *npy, size_t first, size_t count,
                         const struct target *to) {
    enum { STRIP = 64 }; /* rows of a Fortran array that are transposed together */
    size_t rows = npy->dim_count ? npy->dims[0] : 1, width = rows ? npy->count / rows : 0;
    if (!npy->fortran_order || npy->dim_count < 2) {
        convert(npy, first * width, count * width, to, 0, 1);
    } else if (npy->dim_count == 2) {
        for (size_t r = 0; r < count; r += STRIP) {
            size_t strip = count - r < STRIP ? count - r : STRIP;
            for (size_t c = 0; c < width; c++)
                convert(npy, c * rows + first + r, strip, to, r * width + c, width);
        }
    } else {
        for (size_t i = 0; i < count * width; i++)
            convert(npy, stored_index(npy, first * width + i), 1, to, i, 1);
    }
}

void dml_npy_rows(const struct dml_npy *npy, size_t first, size_t count, float *out) {
    convert_rows(npy, first, count, &(struct target){out, false});
}

void dml_npy_rows64(const struct dml_npy *npy, size_t first, size_t count, double *out) {
    convert_rows(npy, first, count, &(struct target){out, true});
}

enum dml_status dml_npy_floats(const struct dml_npy *npy, float **out) {
    *out = dml_alloc_aligned(npy->count, sizeof **out);
    if (!*out)
        return DML_ERROR_MEMORY;
    if (npy->count)
        dml_npy_rows(npy, 0, npy->dim_count ? npy->dims[0] : 1, *out);
    return DML_OK;
}

/* Whether the mapping holds exactly what a view of that type needs. */
static bool is_plain(const struct dml_npy *npy, enum dml_npy_type type) {
    return npy->type == type && !npy->swapped && (!npy->fortran_order || npy->dim_count < 2) &&
           (uintptr_t)npy->data % types[type].size == 0;
}

enum dml_status dml_npy_view(const struct dml_npy *npy, const float **view, float **owned) {
    *owned = NULL;
    if (is_plain(npy, DML_NPY_F32)) {
        *view = npy->data;
        return DML_OK;
    }
    enum dml_status status = dml_npy_floats(npy, owned);
    *view = *owned;
    return status;
}

enum dml_status dml_npy_view64(const struct dml_npy *npy, const double **view, double **owned) {
    *owned = NULL;
    if (is_plain(npy, DML_NPY_F64)) {
        *view = npy->data;
        return DML_OK;
    }
    *view = *owned = dml_alloc_aligned(npy->count, sizeof **owned);
    if (!*owned)
        return DML_ERROR_MEMORY;
    if (npy->count)
        dml_npy_rows64(npy, 0, npy->dim_count ? npy->dims[0] : 1, *owned);
    return DML_OK;
}

bool dml_npy_is_float32(const struct dml_npy *npy) {
    if (types[npy->type].size < 4 || npy->type == DML_NPY_F32)
        return true;
    bool same = true;
    for (size_t first = 0; first < npy->count && same; first += 256) {
        double values[256];
        size_t count = npy->count - first < 256 ? npy->count - first : 256;
        convert(npy, first, count, &(struct target){values, true}, 0, 1);
        for (size_t i = 0; i < count; i++) /* NaN and infinity may stay; what overflows may not */
            same &= !isfinite(values[i]) ||
                    (isfinite((float)values[i]) && (double)(float)values[i] == values[i]);
    }
    return same;
}

__int128 dml_npy_integer(const struct dml_npy *npy, size_t i) {
    const char *at = (const char *)npy->data + stored_index(npy, i) * types[npy->type].size;
    uint64_t bits = 0;
    size_t size = types[npy->type].size;
    memcpy(&bits, at, size); /* little-endian, like most files */
    if (npy->swapped)
        bits = __builtin_bswap64(bits) >> (64 - 8 * size);
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
