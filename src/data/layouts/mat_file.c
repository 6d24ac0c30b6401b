/* After "MAT-File Format", MathWorks: elements of a tag (type, bytes) and data that is padded to 8
 * bytes. Every length is checked against the bytes that are there. */
#include "data/layouts/mat_file.h"

#include "base/files.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { HEADER = 128, NAME_LENGTH = 64, MOST_BYTES = 256 << 20 };
enum type {
    INT8 = 1,
    UINT8 = 2,
    INT16 = 3,
    UINT16 = 4,
    INT32 = 5,
    UINT32 = 6,
    SINGLE = 7,
    DOUBLE = 9,
    MATRIX = 14,
    COMPRESSED = 15,
    UTF8 = 16,
};
enum class { CLASS_STRUCT = 2, CLASS_CHAR = 4, CLASS_DOUBLE = 6, CLASS_LAST_NUMBER = 15 };

struct span {
    const uint8_t *at;
    size_t left;
};

struct element {
    uint32_t type;
    struct span data;
};

static uint32_t read_u32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

/* Takes an element off the span; false where it does not hold a whole one. */
static bool next_element(struct span *span, struct element *out) {
    if (span->left < 8)
        return false;
    uint32_t word = read_u32(span->at);
    size_t size = word >> 16, whole = 8;
    out->type = word & 0xffff;
    out->data = (struct span){span->at + 4, size};
    if (size == 0) { /* not the short form, whose up to 4 bytes lie in the tag */
        size = read_u32(span->at + 4);
        out->data = (struct span){span->at + 8, size};
        if (size > span->left - 8)
            return false;
        whole = out->type == COMPRESSED ? size + 8 : (size + 7) / 8 * 8 + 8;
    } else if (size > 4) {
        return false;
    }
    whole = whole < span->left ? whole : span->left;
    span->at += whole;
    span->left -= whole;
    return true;
}

/* What a matrix begins with. */
struct matrix {
    enum class kind;
    size_t count; /* of its values */
    struct span name, rest;
};

static bool open_matrix(struct span bytes, struct matrix *out) {
    struct element flags, sizes, name;
    if (!next_element(&bytes, &flags) || flags.type != UINT32 || flags.data.left < 8 ||
        !next_element(&bytes, &sizes) || sizes.type != INT32 || !next_element(&bytes, &name) ||
        name.type != INT8)
        return false;
    out->kind = (enum class)(flags.data.at[0]);
    out->count = 1;
    for (size_t i = 0; i + 4 <= sizes.data.left; i += 4) {
        size_t size = read_u32(sizes.data.at + i);
        if (size > MOST_BYTES || (size && out->count > MOST_BYTES / size))
            return false;
        out->count *= size;
    }
    out->name = name.data;
    out->rest = bytes;
    return true;
}

static bool is_called(const struct matrix *matrix, const char *name) {
    return matrix->name.left == strlen(name) &&
           memcmp(matrix->name.at, name, matrix->name.left) == 0;
}

static enum dml_status broken(const struct dml_mat *mat) {
    return dml_fail(DML_ERROR_INPUT, "%s: is damaged, or not a MATLAB file of version 5 to 7",
                    mat->path);
}

static enum dml_status starved(const struct dml_mat *mat) {
    return dml_fail(DML_ERROR_MEMORY, "out of memory: %s cannot be decompressed", mat->path);
}

/* Inflates an element in place of the one that holds it. */
static enum dml_status inflate_element(struct dml_mat *mat, struct element *element) {
    uint8_t tag[8] = {0};
    z_stream stream = {.next_in = (Bytef *)element->data.at,
                       .avail_in = (uInt)element->data.left,
                       .next_out = tag,
                       .avail_out = sizeof tag};
    if (inflateInit(&stream) != Z_OK)
        return starved(mat);
    enum dml_status status = DML_OK;
    int code = inflate(&stream, Z_SYNC_FLUSH);
    uint32_t size = read_u32(tag + 4);
    if (code == Z_MEM_ERROR)
        status = starved(mat);
    else if (stream.avail_out != 0 || size > MOST_BYTES)
        status = broken(mat);
    free(mat->inflated);
    mat->inflated = status ? NULL : dml_alloc((size_t)size + 1, 1);
    if (!status && !mat->inflated)
        status = DML_ERROR_MEMORY;
    if (!status) {
        stream.next_out = mat->inflated;
        stream.avail_out = size;
        code = inflate(&stream, Z_FINISH);
        if (stream.avail_out != 0)
            status = code == Z_MEM_ERROR ? starved(mat) : broken(mat);
        element->type = read_u32(tag);
        element->data = (struct span){mat->inflated, size};
    }
    inflateEnd(&stream);
    return status;
}

static enum dml_status find_variable(struct dml_mat *mat, const char *name, struct matrix *out) {
    struct span span = {(const uint8_t *)mat->file + HEADER, mat->file_size - HEADER};
    struct element element;
    while (span.left >= 8) {
        if (!next_element(&span, &element))
            return broken(mat);
        enum dml_status status =
            element.type == COMPRESSED ? inflate_element(mat, &element) : DML_OK;
        if (status)
            return status;
        if (element.type == MATRIX && open_matrix(element.data, out) && is_called(out, name))
            return DML_OK;
    }
    return dml_fail(DML_ERROR_INPUT, "%s: has no variable '%s'", mat->path, name);
}

static enum dml_status read_names(struct dml_mat *mat, struct span *rest) {
    struct element length, names;
    size_t each;
    if (!next_element(rest, &length) || length.type != INT32 || length.data.left < 4 ||
        !next_element(rest, &names) || names.type != INT8)
        return broken(mat);
    each = read_u32(length.data.at);
    if (each == 0 || each > NAME_LENGTH || names.data.left < each)
        return broken(mat);
    size_t count = names.data.left / each;
    mat->names = dml_alloc(count, sizeof *mat->names);
    if (!mat->names)
        return DML_ERROR_MEMORY;
    for (; mat->fields < count; mat->fields++) {
        char *name =
            dml_format("%.*s", (int)each, (const char *)names.data.at + mat->fields * each);
        if (!name)
            return DML_ERROR_MEMORY;
        mat->names[mat->fields] = name;
    }
    return DML_OK;
}

static enum dml_status read_structs(struct dml_mat *mat, const char *name) {
    struct matrix matrix;
    enum dml_status status = find_variable(mat, name, &matrix);
    if (!status && matrix.kind != CLASS_STRUCT)
        status = dml_fail(DML_ERROR_INPUT, "%s: '%s' is not an array of structs", mat->path, name);
    if (!status)
        status = read_names(mat, &matrix.rest);
    if (status)
        return status;
    if (matrix.count > matrix.rest.left / 8 / mat->fields) /* each value has a tag */
        return broken(mat);
    size_t count = matrix.count * mat->fields;
    mat->cells = dml_alloc(count, sizeof *mat->cells);
    if (!mat->cells)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        struct element value;
        if (!next_element(&matrix.rest, &value) || value.type != MATRIX)
            return broken(mat);
        mat->cells[i] = (struct dml_mat_cell){value.data.at, value.data.left};
    }
    mat->rows = matrix.count;
    return DML_OK;
}

enum dml_status dml_mat_open(const char *path, const char *variable, struct dml_mat *out) {
    *out = (struct dml_mat){.path = path};
    enum dml_status status = dml_read_file(path, &out->file, &out->file_size);
    if (status)
        return status;
    const uint8_t *header = (const uint8_t *)out->file;
    if (out->file_size < HEADER || header[125] != 1 || memcmp(header + 126, "IM", 2) != 0)
        return broken(out);
    return read_structs(out, variable);
}

void dml_mat_close(struct dml_mat *mat) {
    for (size_t i = 0; i < mat->fields; i++)
        free(mat->names[i]);
    free(mat->names);
    free(mat->cells);
    free(mat->inflated);
    free(mat->file);
    *mat = (struct dml_mat){0};
}

int dml_mat_field(const struct dml_mat *mat, const char *name) {
    for (size_t i = 0; i < mat->fields; i++)
        if (strcmp(mat->names[i], name) == 0)
            return (int)i;
    return -1;
}

/* A cell's matrix and the element with its values. */
static bool open_cell(const struct dml_mat *mat, size_t row, int field, struct matrix *matrix,
                      struct element *values) {
    const struct dml_mat_cell *cell = &mat->cells[row * mat->fields + (size_t)field];
    return open_matrix((struct span){cell->bytes, cell->size}, matrix) &&
           next_element(&matrix->rest, values);
}

/* Numbers are stored in the smallest type that holds them, whatever the matrix's class. */
static bool value_of(const struct element *element, double *out) {
    const uint8_t *at = element->data.at;
    double real;
    float single;
    uint32_t bits = 0;
    static const uint8_t sizes[] = {0, 1, 1, 2, 2, 4, 4, 4, 0, 8};
    if (element->type >= sizeof sizes || sizes[element->type] == 0 ||
        element->data.left < sizes[element->type])
        return false;
    for (int i = 0; i < sizes[element->type] && i < 4; i++)
        bits |= (uint32_t)at[i] << 8 * i;
    switch ((enum type)element->type) {
    case INT8:
        *out = (int8_t)bits;
        break;
    case INT16:
        *out = (int16_t)bits;
        break;
    case INT32:
        *out = (int32_t)bits;
        break;
    case SINGLE:
        memcpy(&single, &bits, sizeof single);
        *out = (double)single;
        break;
    case DOUBLE:
        memcpy(&real, at, sizeof real);
        *out = real;
        break;
    default:
        *out = bits;
    }
    return true;
}

bool dml_mat_number(const struct dml_mat *mat, size_t row, int field, int64_t *out) {
    struct matrix matrix;
    struct element values;
    double value;
    if (!open_cell(mat, row, field, &matrix, &values) || matrix.kind < CLASS_DOUBLE ||
        matrix.kind > CLASS_LAST_NUMBER || matrix.count != 1 || !value_of(&values, &value) ||
        !(fabs(value) < 1e15) || value != floor(value))
        return false;
    *out = (int64_t)value;
    return true;
}

bool dml_mat_text(const struct dml_mat *mat, size_t row, int field, char *out, size_t size) {
    struct matrix matrix;
    struct element values;
    if (!open_cell(mat, row, field, &matrix, &values) || matrix.kind != CLASS_CHAR ||
        matrix.count >= size)
        return false;
    size_t wide = values.type == UINT16 ? 2 : 1;
    if ((wide == 1 && values.type != UTF8 && values.type != INT8 && values.type != UINT8) ||
        values.data.left < matrix.count * wide)
        return false;
    for (size_t i = 0; i < matrix.count; i++) {
        const uint8_t *at = values.data.at + i * wide;
        if (at[0] < 0x20 || at[0] > 0x7e || (wide == 2 && at[1]))
            return false;
        out[i] = (char)at[0];
    }
    out[matrix.count] = 0;
    return true;
}
