#include "math/gram.h"

#include "math/panels.h"

enum { DEPTH = 512 }; /* components at a time, so that a panel lies on the stack */

/* Columns j..j + DML_PANEL of `out` from row j on. */
static void fill_columns(const float *x, size_t n, size_t dim, size_t j, float *out) {
    float panel[DEPTH * DML_PANEL];
    size_t width = n - j < DML_PANEL ? n - j : DML_PANEL;
    for (size_t l = 0; l < dim; l += DEPTH) {
        size_t depth = dim - l < DEPTH ? dim - l : DEPTH;
        dml_panels_pack_transposed(depth, width, x + j * dim + l, dim, panel);
        dml_panels_multiply(n - j, width, depth, x + j * dim + l, dim, 1, panel, l > 0,
                            out + j * n + j, n);
    }
}

/* Their mirror images, rows j..j + DML_PANEL right of the diagonal tile, which is symmetric by
 * itself: in squares, because a column of `out` walks through memory in steps that caches cannot
 * hold. */
static void mirror_columns(float *out, size_t n, size_t j) {
    for (size_t i = j + DML_PANEL; i < n; i += DML_PANEL) {
        size_t height = n - i < DML_PANEL ? n - i : DML_PANEL;
        for (size_t v = 0; v < DML_PANEL; v++)
            for (size_t r = 0; r < height; r++)
                out[(j + v) * n + i + r] = out[(i + r) * n + j + v];
    }
}

void dml_gram(const float *x, size_t n, size_t dim, float *out) {
    /* The longest columns first. A small batch costs less than to wake the other cores. */
#pragma omp parallel for schedule(dynamic, 1) if (n > 128)
    for (size_t j = 0; j < n; j += DML_PANEL) {
        fill_columns(x, n, dim, j, out);
        mirror_columns(out, n, j);
    }
}
