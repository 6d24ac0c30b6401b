#include "math/gram.h"

#include "math/panels.h"
#include "math/turn.h"

#include <string.h>

/* Components taken at a time, so that a panel fits on the stack; and how many are summed by
 * themselves, which cuts the rounding error of a sum of equal signs to a quarter. */
enum { DEPTH = 512, DEPTH64 = 256, STRETCH = 32 };

/* Rows of a block (see gram.h): whole tiles, and whole squares to transpose. */
enum { BLOCK = DML_GRAM_ROWS };

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* A block becomes, or gains (`add`), the products of `rows` rows of x, `ld` apart, with a panel. */
static void multiply(size_t rows, size_t depth, const float *x, size_t ld, const float *panel,
                     bool add, float *block) {
    for (size_t i = 0; i < rows; i += DML_PANEL_ROWS)
        dml_panel_multiply(least(rows - i, DML_PANEL_ROWS), depth, STRETCH, x + i * ld, ld, panel,
                           add, block + i * DML_PANEL);
}

/* A row of a panel's width: two vectors, where memcpy takes four of half their size. */
static inline void copy_row(const float *from, float *to) {
    typedef float unaligned
        __attribute__((vector_size(DML_PANEL * 2), aligned(sizeof(float)), may_alias));
    unaligned first = *(const unaligned *)from, second = *(const unaligned *)(from + DML_PANEL / 2);
    *(unaligned *)to = first;
    *(unaligned *)(to + DML_PANEL / 2) = second;
}

/* Rows (rows, width) of a block from or to `out`. */
static void load(float *block, size_t rows, size_t width, const float *out, size_t ld) {
    for (size_t i = 0; i < rows; i++)
        memcpy(block + i * DML_PANEL, out + i * ld, width * sizeof *block);
}

static void store(const float *block, size_t rows, size_t width, float *out, size_t ld) {
    for (size_t i = 0; i < rows; i++, block += DML_PANEL, out += ld)
        if (width == DML_PANEL)
            copy_row(block, out);
        else
            memcpy(out, block, width * sizeof *block);
}

/* Its mirror image, rows of `out` from that of the block's first column on. */
static void store_mirrored(const float *block, size_t rows, size_t width, float *out, size_t ld) {
    const size_t turned = width == DML_PANEL ? rows / DML_TURN * DML_TURN : 0;
    for (size_t v = 0; v < width && turned > 0; v += DML_TURN)
        for (size_t i = 0; i < turned; i += DML_TURN)
            dml_turn(block + i * DML_PANEL + v, DML_PANEL, out + v * ld + i, ld);
    for (size_t v = 0; v < width; v++)
        for (size_t i = turned; i < rows; i++)
            out[v * ld + i] = block[i * DML_PANEL + v];
}

/* Columns j..j + DML_PANEL of `outs` from row j on, and their mirror images; `finish` may be NULL.
 */
static void fill_columns(const float *x, size_t n, size_t dim, size_t j, dml_gram_finish finish,
                         const void *data, float *const *outs, size_t count, size_t ld) {
    float panel[DEPTH * DML_PANEL], blocks[DML_GRAM_MOST * DML_GRAM_BLOCK];
    const size_t width = least(n - j, DML_PANEL);
    for (size_t l = 0; l < dim; l += DEPTH) {
        const size_t depth = least(dim - l, DEPTH);
        const bool last = l + depth == dim;
        dml_panels_pack_transposed(depth, width, x + j * dim + l, dim, panel);
        for (size_t i = j; i < n; i += BLOCK) {
            const size_t rows = least(n - i, BLOCK);
            if (l > 0)
                load(blocks, rows, width, outs[0] + i * ld + j, ld);
            multiply(rows, depth, x + i * dim + l, dim, panel, l > 0, blocks);
            if (finish && last)
                finish(data, i, rows, j, blocks);
            for (size_t o = 0; o < (last ? count : 1); o++) {
                store(blocks + o * DML_GRAM_BLOCK, rows, width, outs[o] + i * ld + j, ld);
                if (last)
                    store_mirrored(blocks + o * DML_GRAM_BLOCK, rows, width, outs[o] + j * ld + i,
                                   ld);
            }
        }
    }
}

void dml_gram_finished(const float *x, size_t n, size_t dim, dml_gram_finish finish,
                       const void *data, float *const *outs, size_t count, size_t ld) {
    /* The longest columns first. A small batch costs less than waking the other cores. */
#pragma omp parallel for schedule(dynamic, 1) if (n > 128)
    for (size_t j = 0; j < n; j += DML_PANEL)
        fill_columns(x, n, dim, j, finish, data, outs, count, ld);
}

void dml_gram(const float *x, size_t n, size_t dim, float *out) {
    dml_gram_finished(x, n, dim, NULL, NULL, &out, 1, n);
}

/* The same in float64, whose vectors have half as many lanes: a tile has two of them a row. */
enum { LANES64 = DML_PANEL / 4, PANEL64 = 2 * LANES64, ROWS64 = DML_PANEL_ROWS };
typedef double vector64 __attribute__((vector_size(LANES64 * sizeof(double))));
typedef double unaligned64
    __attribute__((vector_size(LANES64 * sizeof(double)), aligned(sizeof(double)), may_alias));

/* c (rows, PANEL64), its rows `ldc` apart, becomes a times a panel, or gains it (`add`). */
static inline __attribute__((always_inline)) void tile64(size_t rows, size_t k, const double *a,
                                                         size_t lda, const double *panel, bool add,
                                                         double *c, size_t ldc) {
    vector64 sums[ROWS64][2];
    for (size_t i = 0; i < rows; i++)
        sums[i][0] = sums[i][1] = (vector64){0};
    for (size_t l = 0; l < k; l++, panel += PANEL64) {
        vector64 first = *(const unaligned64 *)panel;
        vector64 second = *(const unaligned64 *)(panel + LANES64);
        for (size_t i = 0; i < rows; i++) {
            sums[i][0] += a[i * lda + l] * first;
            sums[i][1] += a[i * lda + l] * second;
        }
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t v = 0; v < 2; v++) {
            unaligned64 *to = (unaligned64 *)(c + i * ldc + v * LANES64);
            if (add)
                sums[i][v] += *to;
            *to = sums[i][v];
        }
}

/* Columns j..j + width of `out` from row j on. A narrow panel's tile is wider than the space for it
 * in `out`. */
static void fill_columns64(const double *x, size_t n, size_t dim, size_t j, size_t width,
                           double *out) {
    double panel[DEPTH64 * PANEL64], narrow[ROWS64 * PANEL64];
    for (size_t l = 0; l < dim; l += DEPTH64) {
        size_t depth = least(dim - l, DEPTH64);
        for (size_t k = 0; k < depth; k++)
            for (size_t v = 0; v < PANEL64; v++)
                panel[k * PANEL64 + v] = v < width ? x[(j + v) * dim + l + k] : 0;
        for (size_t i = j; i < n; i += ROWS64) {
            size_t rows = least(n - i, ROWS64);
            double *to = out + i * n + j;
            const double *from = x + i * dim + l;
            if (rows == ROWS64 && width == PANEL64) {
                tile64(ROWS64, depth, from, dim, panel, l > 0, to, n);
                continue;
            }
            for (size_t r = 0; r < rows; r++) {
                tile64(1, depth, from + r * dim, dim, panel, false, narrow, PANEL64);
                for (size_t v = 0; v < width; v++)
                    to[r * n + v] = narrow[v] + (l > 0 ? to[r * n + v] : 0);
            }
        }
    }
}

static void mirror_columns64(double *out, size_t n, size_t j) {
    double turned[PANEL64][PANEL64];
    for (size_t i = j + PANEL64; i < n; i += PANEL64) {
        size_t height = least(n - i, PANEL64);
        for (size_t r = 0; r < height; r++)
            for (size_t v = 0; v < PANEL64; v++)
                turned[v][r] = out[(i + r) * n + j + v];
        for (size_t v = 0; v < PANEL64; v++)
            memcpy(out + (j + v) * n + i, turned[v], height * sizeof *out);
    }
}

void dml_gram64(const double *x, size_t n, size_t dim, double *out) {
#pragma omp parallel for schedule(dynamic, 1) if (n > 128)
    for (size_t j = 0; j < n; j += PANEL64) {
        fill_columns64(x, n, dim, j, least(n - j, PANEL64), out);
        mirror_columns64(out, n, j);
    }
}
