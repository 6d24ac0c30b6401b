#ifndef DML_BASE_NPY_H
#define DML_BASE_NPY_H

#include "base/files.h"

#include <stdint.h>

/* NumPy's .npy format, versions 1 to 3: all real types except long double, in either byte order.
 * The file stays mapped. */
enum dml_npy_type {
    DML_NPY_BOOL,
    DML_NPY_I8,
    DML_NPY_I16,
    DML_NPY_I32,
    DML_NPY_I64,
    DML_NPY_U8,
    DML_NPY_U16,
    DML_NPY_U32,
    DML_NPY_U64,
    DML_NPY_F16,
    DML_NPY_F32,
    DML_NPY_F64,
};

enum { DML_NPY_MAX_DIMS = 64 }; /* as many as numpy allows */

struct dml_npy {
    enum dml_npy_type type;
    size_t dims[DML_NPY_MAX_DIMS];
    int dim_count;
    size_t count; /* elements */
    bool fortran_order;
    bool swapped;     /* big-endian */
    const void *data; /* in the mapping, possibly not aligned */
    struct dml_mapping mapping;
};

/* DML_ERROR_INPUT: not a .npy file, cut short, a shape larger than the file, or elements that are
 * not real numbers, named as numpy names them. */
enum dml_status dml_npy_open(const char *path, struct dml_npy *out);
void dml_npy_close(struct dml_npy *npy);

/* The same from bytes in memory (not freed by close); `name` is for messages. */
enum dml_status dml_npy_parse(const void *bytes, size_t size, const char *name,
                              struct dml_npy *out);

/* All elements in C order, converted; freed with free(). int32: floats, and values beyond 32 bits,
 * are an error, and the caller puts the file's name before its message (dml_fail_within). */
enum dml_status dml_npy_floats(const struct dml_npy *npy, float **out);
enum dml_status dml_npy_int32(const struct dml_npy *npy, int32_t **out);

/* Rows [first, first + count) of the first axis in C order into `out`, converted as they are read:
 * nothing is needed besides the mapping and `out`. */
void dml_npy_rows(const struct dml_npy *npy, size_t first, size_t count, float *out);

/* All elements as floats: the mapping itself where it holds exactly that (*owned is NULL, and the
 * view ends with dml_npy_close), else converted into *owned, freed with free(). */
enum dml_status dml_npy_view(const struct dml_npy *npy, const float **view, float **owned);

/* The same in float64, for what float32 cannot hold. */
void dml_npy_rows64(const struct dml_npy *npy, size_t first, size_t count, double *out);
enum dml_status dml_npy_view64(const struct dml_npy *npy, const double **view, double **owned);

/* Whether float32 holds every element exactly. */
bool dml_npy_is_float32(const struct dml_npy *npy);

/* Integers of any width and sign, exactly. */
bool dml_npy_is_integer(const struct dml_npy *npy);            /* bool counts as one */
__int128 dml_npy_integer(const struct dml_npy *npy, size_t i); /* element i in C order */

const char *dml_npy_type_name(enum dml_npy_type type); /* "float16" */

/* Writes an array in C order, whole or not at all. */
enum dml_status dml_npy_write(const char *path, enum dml_npy_type type, const void *data,
                              const size_t *dims, int dim_count);

#endif
