/* Products of pairs: included by pairs_native.c and pairs_emulated.c, which define LANES, the
 * 32-bit lanes of a vector, ROWS, the rows of a tile, the functions dot() and narrow_lanes() on
 * vectors, and the name PAIRS. */
#include "base/half.h"
#include "math/turn.h"

#include <omp.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Columns of a panel: a row of a tile is two vectors of sums. Columns and rows of op(b) that are
 * packed at a time, and the most rows of c that a thread has at a time, a multiple of ROWS. How k
 * is cut affects the last bits and depends on k alone, not on the processor. */
enum { PANEL = 2 * LANES, WIDE = 1024, DEEP = 1536, TALL = 48 };

typedef float unaligned
    __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef uint32_t unaligned_pairs
    __attribute__((vector_size(LANES * sizeof(uint32_t)), aligned(2), may_alias));

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t pairs_of(size_t k) {
    return (k + 1) / 2;
}

/* The element (i, j) of a matrix. */
INLINE const void *element_at(struct cpu_matrix m, size_t i, size_t j) {
    return (const char *)m.values + (i * m.ld + j) * plan_element_size(m.element);
}

/* The matrix that begins there. */
INLINE struct cpu_matrix part_at(struct cpu_matrix m, size_t i, size_t j) {
    m.values = element_at(m, i, j);
    return m;
}

/* From two rows, of which the second may be NULL: out[c] is the pair of their elements c. */
INLINE void pair_columns(enum plan_element element, const void *first, const void *second,
                         size_t count, cpu_pair *out) {
    if (element == PLAN_BFLOAT16) {
        const uint16_t *a = first, *b = second;
#pragma omp simd
        for (size_t c = 0; c < count; c++)
            out[c] = a[c] | (b ? (uint32_t)b[c] << 16 : 0);
        return;
    }
    const float *a = first, *b = second;
#pragma omp simd
    for (size_t c = 0; c < count; c++)
        out[c] = dml_bfloat16_bits(a[c]) | (b ? (uint32_t)dml_bfloat16_bits(b[c]) << 16 : 0);
}

/* From one row of `count` elements: its pairs. */
INLINE void pair_row(enum plan_element element, const void *from, size_t count, cpu_pair *out) {
    if (element == PLAN_BFLOAT16) {
        if (count % 2)
            out[count / 2] = ((const uint16_t *)from)[count - 1];
        memcpy(out, from, count / 2 * sizeof *out);
        return;
    }
    const float *a = from;
#pragma omp simd
    for (size_t c = 0; c < count / 2; c++)
        out[c] = dml_bfloat16_bits(a[2 * c]) | (uint32_t)dml_bfloat16_bits(a[2 * c + 1]) << 16;
    if (count % 2)
        out[count / 2] = dml_bfloat16_bits(a[count - 1]);
}

static size_t panels_size(size_t k, size_t n) {
    return (n + PANEL - 1) / PANEL * PANEL * pairs_of(k);
}

/* Panel p is (pairs of k, PANEL): the columns from p PANEL on, 0 beyond column n. */
static void pack_plain(size_t k, size_t n, struct cpu_matrix b, cpu_pair *panels) {
    for (size_t l = 0; l < k; l += 2, panels += PANEL)
        for (size_t j = 0; j < n; j += PANEL) {
            const void *first = element_at(b, l, j);
            const void *second = l + 1 < k ? element_at(b, l + 1, j) : NULL;
            cpu_pair *to = panels + j * pairs_of(k);
            size_t width = least(n - j, PANEL);
            if (width == PANEL && second) { /* of constant size */
                pair_columns(b.element, first, second, PANEL, to);
                continue;
            }
            pair_columns(b.element, first, second, width, to);
            memset(to + width, 0, (PANEL - width) * sizeof *to);
        }
}

/* Eight columns of eight pairs at most, from the rows of bt: `width` columns of k values. */
INLINE void pack_square(size_t width, size_t k, struct cpu_matrix bt, cpu_pair *to) {
    uint32_t square[DML_TURN][DML_TURN];
    if (width < DML_TURN || k < 2 * DML_TURN)
        memset(square, 0, sizeof square);
    for (size_t v = 0; v < width; v++)
        pair_row(bt.element, element_at(bt, v, 0), k, square[v]);
    if (k == 2 * DML_TURN) {
        dml_turn((const float *)square, DML_TURN, (float *)to, PANEL);
        return;
    }
    for (size_t l = 0; l < pairs_of(k); l++)
        for (size_t v = 0; v < DML_TURN; v++)
            to[l * PANEL + v] = square[v][l];
}

static void pack_transposed(size_t k, size_t n, struct cpu_matrix bt, cpu_pair *panels) {
    for (size_t j = 0; j < n; j += PANEL, panels += PANEL * pairs_of(k))
        for (size_t l = 0; l < k; l += 2 * DML_TURN)
            for (size_t v = 0; v < PANEL; v += DML_TURN) {
                size_t width = j + v < n ? least(n - j - v, DML_TURN) : 0;
                size_t depth = least(k - l, 2 * DML_TURN);
                cpu_pair *to = panels + l / 2 * PANEL + v;
                if (width == DML_TURN && depth == 2 * DML_TURN)
                    pack_square(DML_TURN, 2 * DML_TURN, part_at(bt, j + v, l), to);
                else
                    pack_square(width, depth, part_at(bt, j + v, l), to);
            }
}

static void pack(bool transpose, size_t k, size_t n, struct cpu_matrix b, cpu_pair *panels) {
    (transpose ? pack_transposed : pack_plain)(k, n, b, panels);
}

static struct cpu_pair_rows rows_of(bool transpose, size_t m, size_t k, struct cpu_matrix a,
                                    cpu_pair *room) {
    if (transpose) {
        for (size_t l = 0; l < k; l += 2)
            pair_columns(a.element, element_at(a, l, 0), l + 1 < k ? element_at(a, l + 1, 0) : NULL,
                         m, room + l / 2 * m);
        return (struct cpu_pair_rows){room, 1, m};
    }
    if (a.element == PLAN_BFLOAT16 && k % 2 == 0 && a.ld % 2 == 0)
        return (struct cpu_pair_rows){a.values, a.ld / 2, 1};
    for (size_t i = 0; i < m; i++)
        pair_row(a.element, element_at(a, i, 0), k, room + i * pairs_of(k));
    return (struct cpu_pair_rows){room, pairs_of(k), 1};
}

/* Where element (i, j) of the result is made, with what is added to it there. */
INLINE struct cpu_pair_result result_at(struct cpu_pair_result r, size_t i, size_t j) {
    r.c = (char *)r.c + (i * r.ldc + j) * plan_element_size(r.element);
    r.row = r.row ? r.row + j : NULL;
    r.matrix = r.matrix ? r.matrix + i * r.ld + j : NULL;
    return r;
}

/* A row of sums, `width` of them. */
static void finish(const float *sums, size_t width, struct cpu_pair_result r) {
    for (size_t j = 0; j < width; j++) {
        float value = sums[j] + (r.row ? r.row[j] : 0.0f);
        value += r.matrix ? r.matrix[j] : 0.0f;
        if (r.element == PLAN_BFLOAT16)
            ((uint16_t *)r.c)[j] = dml_bfloat16_bits(value);
        else
            ((float *)r.c)[j] = value;
    }
}

/* `rows` rows of a times one panel, of which the result has `width` columns. `rows` is a constant
 * where this is inlined, so that sums live in registers. */
INLINE void tile(size_t rows, size_t pairs, struct cpu_pair_rows a, const cpu_pair *panel,
                 size_t width, struct cpu_pair_result result) {
    lanes sums[ROWS][2];
    for (size_t i = 0; i < rows; i++) /* as in math/panels.c */
        sums[i][0] = sums[i][1] = (lanes){0};
    const cpu_pair *left = a.at;
    for (size_t l = 0; l < pairs; l++, left += a.step, panel += PANEL) {
        pair_lanes first = *(const unaligned_pairs *)panel;
        pair_lanes second = *(const unaligned_pairs *)(panel + LANES);
        for (size_t i = 0; i < rows; i++) {
            pair_lanes both = (pair_lanes){0} + left[i * a.row];
            sums[i][0] = dot(sums[i][0], both, first);
            sums[i][1] = dot(sums[i][1], both, second);
        }
    }
    if (width < PANEL) {
        for (size_t i = 0; i < rows; i++)
            finish((const float *)sums[i], width, result_at(result, i, 0));
        return;
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t v = 0; v < 2; v++) {
            struct cpu_pair_result r = result_at(result, i, v * LANES);
            if (r.row)
                sums[i][v] += *(const unaligned *)r.row;
            if (r.matrix)
                sums[i][v] += *(const unaligned *)r.matrix;
            if (r.element == PLAN_BFLOAT16)
                narrow_lanes(sums[i][v], r.c);
            else
                *(unaligned *)r.c = sums[i][v];
        }
}

/* Up to ROWS rows. */
static void few_rows(size_t rows, size_t pairs, struct cpu_pair_rows a, const cpu_pair *panel,
                     size_t width, struct cpu_pair_result r) {
    if (rows == ROWS) {
        tile(ROWS, pairs, a, panel, width, r);
        return;
    }
    if (rows > 6) {
        tile(6, pairs, a, panel, width, r);
        a.at += 6 * a.row;
        r = result_at(r, 6, 0);
        rows -= 6;
    }
    switch (rows) {
    case 6:
        tile(6, pairs, a, panel, width, r);
        break;
    case 5:
        tile(5, pairs, a, panel, width, r);
        break;
    case 4:
        tile(4, pairs, a, panel, width, r);
        break;
    case 3:
        tile(3, pairs, a, panel, width, r);
        break;
    case 2:
        tile(2, pairs, a, panel, width, r);
        break;
    default:
        tile(1, pairs, a, panel, width, r);
    }
}

static void multiply(size_t m, size_t n, size_t k, struct cpu_pair_rows a, const cpu_pair *panels,
                     struct cpu_pair_result result) {
    for (size_t j = 0; j < n; j += PANEL)
        for (size_t i = 0; i < m; i += ROWS) {
            struct cpu_pair_rows from = {a.at + i * a.row, a.row, a.step};
            few_rows(least(m - i, ROWS), pairs_of(k), from, panels + j * pairs_of(k),
                     least(n - j, PANEL), result_at(result, i, j));
        }
}

/* The size of the equal parts that `whole` is cut into: a multiple of 32, which is one of every
 * PANEL, at most about `most`. */
static size_t part_of(size_t whole, size_t most) {
    size_t count = (whole + most - 1) / most;
    return least(((whole + count - 1) / count + 31) / 32 * 32, whole);
}

/* Sums that are stored as bfloat16 cannot be continued: then k is not cut. */
static size_t depth_of(size_t k, enum plan_element element) {
    return element == PLAN_BFLOAT16 ? k : part_of(k, DEEP);
}
static size_t width_of(size_t n, size_t depth) {
    size_t most = depth > DEEP ? (size_t)WIDE * DEEP / depth : WIDE;
    return part_of(n, most > PANEL ? most : PANEL);
}

static size_t workspace(size_t n, size_t k) {
    size_t cut = depth_of(k, PLAN_FLOAT32);
    size_t some = panels_size(cut, width_of(n, cut)), whole = panels_size(k, width_of(n, k));
    return some > whole ? some : whole;
}

/* Rows at a time: as many as let the threads finish together, each having its share of the parts,
 * and fewer where they are long. */
static size_t height_of(size_t m, size_t depth) {
    const size_t threads = (size_t)omp_get_max_threads();
    size_t best = ROWS, least_rows = SIZE_MAX;
    for (size_t height = TALL; height >= ROWS; height -= ROWS) {
        size_t parts = (m + height - 1) / height;
        size_t rows = (parts + threads - 1) / threads * height; /* of the thread that has most */
        if (height > ROWS && height * depth > TALL * DEEP)
            continue;
        if (rows + rows / 32 < least_rows) { /* taller parts pack less */
            least_rows = rows;
            best = height;
        }
    }
    return best;
}

static void pack_part(const struct cpu_pair_product *p, size_t j, size_t l, size_t width,
                      size_t depth, cpu_pair *work) {
    struct cpu_matrix b = p->transpose_b ? part_at(p->b, j, l) : part_at(p->b, l, j);
#pragma omp parallel for schedule(dynamic, 1) if (width * depth > 30000)
    for (size_t v = 0; v < width; v += PANEL)
        pack(p->transpose_b, depth, least(width - v, PANEL),
             p->transpose_b ? part_at(b, v, 0) : part_at(b, 0, v), work + v * pairs_of(depth));
}

static void product(const struct cpu_pair_product *p, cpu_pair *work) {
    size_t deep = depth_of(p->k, p->result.element), wide = width_of(p->n, deep);
    size_t height = height_of(p->m, deep);
    for (size_t j = 0; j < p->n; j += wide)
        for (size_t l = 0; l < p->k; l += deep) {
            size_t width = least(p->n - j, wide), depth = least(p->k - l, deep);
            struct cpu_pair_result to = p->result;
            if (l > 0) { /* the sums so far */
                to.row = NULL;
                to.matrix = to.c;
                to.ld = to.ldc;
            }
            pack_part(p, j, l, width, depth, work);
#pragma omp parallel for schedule(dynamic, 1) if (p->m * width * depth > 4000000)
            for (size_t i = 0; i < p->m; i += height) {
                size_t m = least(p->m - i, height);
                cpu_pair room[height * pairs_of(deep)];
                struct cpu_matrix a = p->transpose_a ? part_at(p->a, l, i) : part_at(p->a, i, l);
                multiply(m, width, depth, rows_of(p->transpose_a, m, depth, a, room), work,
                         result_at(to, i, j));
            }
        }
}

const struct cpu_pairs *PAIRS(void) {
    static const struct cpu_pairs pairs = {
        .panels_size = panels_size,
        .pack = pack,
        .rows = rows_of,
        .multiply = multiply,
        .workspace = workspace,
        .product = product,
    };
    return &pairs;
}
