#include "math/panels.h"

#include "math/turn.h"

#include <string.h>

/* A row of a tile is two vectors; 6 rows of sums, a row of b and an element of a take 15 of the 16
 * registers of AVX2, and 12 multiplications wait for 8 loads. AVX-512 has 32 registers: 12 rows
 * read a panel half as often. */
enum { LANES = DML_PANEL / 2, ROWS = DML_PANEL_ROWS, CHUNK = 24 * DML_PANEL };
typedef float vector __attribute__((vector_size(LANES * sizeof(float))));
typedef float unaligned
    __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

/* c (rows, DML_PANEL) = from + a times one panel. `rows` is a constant where this is inlined, so
 * that sums live in registers. */
static inline __attribute__((always_inline)) void tile(size_t rows, size_t k, const float *a,
                                                       size_t row, size_t step, const float *panel,
                                                       const float *from, size_t from_ld, float *c,
                                                       size_t ldc) {
    vector sums[ROWS][2];
    for (size_t i = 0; i < rows; i++) /* not `= {0}`, which gcc writes to memory first */
        sums[i][0] = sums[i][1] = (vector){0};
    for (size_t l = 0; l < k; l++, a += step, panel += DML_PANEL) {
        vector first = *(const unaligned *)panel, second = *(const unaligned *)(panel + LANES);
        for (size_t i = 0; i < rows; i++) {
            sums[i][0] += a[i * row] * first;
            sums[i][1] += a[i * row] * second;
        }
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t v = 0; v < 2; v++) {
            if (from)
                sums[i][v] += *(const unaligned *)(from + i * from_ld + v * LANES);
            *(unaligned *)(c + i * ldc + v * LANES) = sums[i][v];
        }
}

/* Up to ROWS rows. */
static void few_rows(size_t rows, size_t k, const float *a, size_t row, size_t step,
                     const float *panel, const float *from, size_t from_ld, float *c, size_t ldc) {
#if defined(__AVX512F__)
    if (rows == ROWS) {
        tile(ROWS, k, a, row, step, panel, from, from_ld, c, ldc);
        return;
    }
    if (rows > 6) {
        tile(6, k, a, row, step, panel, from, from_ld, c, ldc);
        a += 6 * row;
        c += 6 * ldc;
        from = from ? from + 6 * from_ld : NULL;
        rows -= 6;
    }
#endif
    switch (rows) {
    case 6:
        tile(6, k, a, row, step, panel, from, from_ld, c, ldc);
        break;
    case 5:
        tile(5, k, a, row, step, panel, from, from_ld, c, ldc);
        break;
    case 4:
        tile(4, k, a, row, step, panel, from, from_ld, c, ldc);
        break;
    case 3:
        tile(3, k, a, row, step, panel, from, from_ld, c, ldc);
        break;
    case 2:
        tile(2, k, a, row, step, panel, from, from_ld, c, ldc);
        break;
    default:
        tile(1, k, a, row, step, panel, from, from_ld, c, ldc);
    }
}

static void copy_rows(size_t rows, size_t width, const float *from, size_t from_ld, float *to,
                      size_t to_ld) {
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * to_ld, from + i * from_ld, width * sizeof *to);
}

/* One panel, of which c has the first `width` columns. */
static void multiply_panel(size_t m, size_t width, size_t k, const float *a, size_t row,
                           size_t step, const float *panel, const float *from, size_t from_ld,
                           float *c, size_t ldc) {
    for (size_t i = 0; i < m; i += ROWS) {
        size_t rows = m - i < ROWS ? m - i : ROWS;
        const float *own = from ? from + i * from_ld : NULL;
        if (width == DML_PANEL) {
            few_rows(rows, k, a + i * row, row, step, panel, own, from_ld, c + i * ldc, ldc);
            continue;
        }
        float whole[ROWS * DML_PANEL];
        memset(whole, 0, sizeof whole);
        if (own)
            copy_rows(rows, width, own, from_ld, whole, DML_PANEL);
        few_rows(rows, k, a + i * row, row, step, panel, own ? whole : NULL, DML_PANEL, whole,
                 DML_PANEL);
        copy_rows(rows, width, whole, DML_PANEL, c + i * ldc, ldc);
    }
}

void dml_panels_multiply(size_t m, size_t n, size_t k, const float *a, size_t row, size_t step,
                         const float *panels, const float *from, size_t from_ld, float *c,
                         size_t ldc) {
    /* Rows are read again for every panel: only as much of them at a time as stays in cache. */
    for (size_t l = 0; l < k; l += CHUNK) {
        /* Where a is stored by columns, the next values needed are not the next in memory. */
        for (size_t next = l + CHUNK; row == 1 && step > 1 && next < k && next < l + 2 * CHUNK;
             next++)
            dml_prefetch(a + next * step, m);
        if (l > 0) {
            from = c;
            from_ld = ldc;
        }
        for (size_t j = 0; j < n; j += DML_PANEL)
            multiply_panel(m, n - j < DML_PANEL ? n - j : DML_PANEL, k - l < CHUNK ? k - l : CHUNK,
                           a + l * step, row, step, panels + j * k + l * DML_PANEL,
                           from ? from + j : NULL, from_ld, c + j, ldc);
    }
}

void dml_panel_multiply(size_t rows, size_t k, size_t stretch, const float *a, size_t row,
                        const float *panel, bool add, float *c) {
    for (size_t l = 0; l < k; l += stretch)
        few_rows(rows, k - l < stretch ? k - l : stretch, a + l, row, 1, panel + l * DML_PANEL,
                 add || l > 0 ? c : NULL, DML_PANEL, c, DML_PANEL);
}

size_t dml_panels_size(size_t k, size_t n) {
    return (n + DML_PANEL - 1) / DML_PANEL * DML_PANEL * k;
}

void dml_panels_pack(size_t k, size_t n, const float *b, size_t ld, float *panels) {
    size_t whole = n / DML_PANEL * DML_PANEL;
    for (size_t l = 0; l < k; l++, b += ld, panels += DML_PANEL) {
        for (size_t j = 0; j < whole; j += DML_PANEL) /* of constant size, so no call */
            memcpy(panels + j * k, b + j, DML_PANEL * sizeof *b);
        for (size_t v = 0; v < DML_PANEL && whole < n; v++)
            panels[whole * k + v] = whole + v < n ? b[whole + v] : 0;
    }
}

void dml_panels_pack_transposed(size_t k, size_t n, const float *bt, size_t ld, float *panels) {
    for (size_t j = 0; j < n; j += DML_PANEL, panels += k * DML_PANEL) {
        size_t width = n - j < DML_PANEL ? n - j : DML_PANEL;
        size_t turned = width == DML_PANEL ? k / DML_TURN * DML_TURN : 0;
        for (size_t l = 0; l < turned; l += DML_TURN)
            for (size_t v = 0; v < DML_PANEL; v += DML_TURN)
                dml_turn(bt + (j + v) * ld + l, ld, panels + l * DML_PANEL + v, DML_PANEL);
        for (size_t l = turned; l < k; l++) {
            for (size_t v = 0; v < width; v++)
                panels[l * DML_PANEL + v] = bt[(j + v) * ld + l];
            for (size_t v = width; v < DML_PANEL; v++)
                panels[l * DML_PANEL + v] = 0;
        }
    }
}
