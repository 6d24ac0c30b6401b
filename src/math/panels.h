#ifndef DML_MATH_PANELS_H
#define DML_MATH_PANELS_H

#include <stdbool.h>
#include <stddef.h>

/* Products for loops that use one operand many times, or that process a result further while it is
 * in cache: operand b is packed once, into panels of DML_PANEL columns, and multiplied by a few
 * rows at a time. (BLAS packs both operands anew in every call.) All of it runs on the calling
 * thread, and an element of a result is a sum in the order of k, whatever rows it is computed with:
 * bits depend on the operands alone. What is added to a result is summed by itself first. */

/* Columns of a panel, two vectors of the level that this is compiled for, and how many rows share
 * one reading of it. Only for files that are compiled for every level (cmake/levels.cmake). */
#if defined(__AVX512F__)
enum { DML_PANEL = 32, DML_PANEL_ROWS = 12 };
#elif defined(__AVX__)
enum { DML_PANEL = 16, DML_PANEL_ROWS = 6 };
#else
enum { DML_PANEL = 8, DML_PANEL_ROWS = 6 };
#endif

/* Floats in the panels of b (k, n). */
size_t dml_panels_size(size_t k, size_t n);

/* Packs b (k, n), its rows `ld` apart: panel p is (k, DML_PANEL), the columns from p DML_PANEL on
 * and 0 beyond column n; the panels lie one after another. */
void dml_panels_pack(size_t k, size_t n, const float *b, size_t ld, float *panels);

/* The same from the transpose of b: bt (n, k), its rows `ld` apart. */
void dml_panels_pack_transposed(size_t k, size_t n, const float *bt, size_t ld, float *panels);

/* Prefetches `count` floats from `from` on into a core's cache. */
static inline void dml_prefetch(const float *from, size_t count) {
    for (size_t i = 0; i < count; i += 16)
        __builtin_prefetch(from + i, 0, 2);
}

/* c (m, n), its rows `ldc` apart, becomes from + a b; k is at least 1. Element (i, l) of a is
 * a[i * row + l * step]; `panels` is b (k, n). The rows of `from` are `from_ld` apart, which may be
 * 0; it may be c itself, with its ldc, or NULL: nothing. */
void dml_panels_multiply(size_t m, size_t n, size_t k, const float *a, size_t row, size_t step,
                         const float *panels, const float *from, size_t from_ld, float *c,
                         size_t ldc);

/* The same for one panel and at most DML_PANEL_ROWS rows, to c with rows DML_PANEL apart, which
 * gains it with `add`; `stretch` terms of a sum are added by themselves at a time. */
void dml_panel_multiply(size_t rows, size_t k, size_t stretch, const float *a, size_t row,
                        const float *panel, bool add, float *c);

#endif
