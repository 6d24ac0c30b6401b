/* Matrix products against plain sums, and the same bits with any number of threads. */
#include "dml/rng.h"

#include "criteria/classmates.h"
#include "criteria/exponentials.h"
#include "criteria/inner_products.h"
#include "math/gaussian.h"
#include "math/gram.h"
#include "math/linear.h"
#include "math/panels.h"
#include "math/products.h"
#include "math/spectrum.h"
#include "support/golden.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static float *random_floats(struct dml_rng *rng, size_t count) {
    float *made = malloc((count + 1) * sizeof *made);
    assert_non_null(made);
    for (size_t i = 0; i < count; i++)
        made[i] = (float)dml_rng_normal(rng);
    return made;
}

static void check_product(struct dml_rng *rng, size_t m, size_t n, size_t k, int ta, int tb) {
    float *a = random_floats(rng, m * k), *b = random_floats(rng, k * n);
    float *first = random_floats(rng, m * n), *start = malloc(m * n * sizeof *start);
    float *c = malloc(m * n * sizeof *c);
    assert_true(start && c);
    memcpy(start, first, m * n * sizeof *start);
    for (int threads = 1; threads <= 3; threads++) {
        float *out = threads == 1 ? first : c;
        memcpy(out, start, m * n * sizeof *c);
        omp_set_num_threads(threads);
        dml_gemm(ta, tb, m, n, k, 0.5f, a, ta ? m : k, b, tb ? k : n, 2.0f, out, n);
        if (threads > 1)
            assert_memory_equal(first, c, m * n * sizeof *c);
    }
    for (int probe = 0; probe < 200; probe++) {
        size_t i = dml_rng_below(rng, m), j = dml_rng_below(rng, n);
        double sum = 2.0 * start[i * n + j], size = fabs(sum);
        for (size_t l = 0; l < k; l++) {
            double term = 0.5 * a[ta ? l * m + i : i * k + l] * b[tb ? j * k + l : l * n + j];
            sum += term;
            size += fabs(term);
        }
        assert_true(fabs(first[i * n + j] - sum) <= 1e-6 * size + 1e-6);
    }
    free(a);
    free(b);
    free(c);
    free(first);
    free(start);
}

static void gemm_of_all_shapes(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(3, DML_PURPOSE_OTHER, 0, 0);
    const size_t shapes[][3] = {{1, 1, 1},      {3, 500, 300},  {500, 3, 300},  {112, 100, 128},
                                {513, 257, 64}, {70, 2100, 33}, {2100, 70, 33}, {20, 20, 2000}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int form = 0; form < 4; form++)
            check_product(&rng, shapes[s][0], shapes[s][1], shapes[s][2], form & 1, form >> 1);
}

/* a b with b in panels, both ways to pack it, a or its transpose, all of c or some of its rows. */
static void check_panels(struct dml_rng *rng, size_t m, size_t n, size_t k, bool transposed) {
    size_t ldc = n + 3, row = transposed ? 1 : k + 2, step = transposed ? m + 2 : 1;
    float *a = random_floats(rng, (m + 2) * (k + 2)), *b = random_floats(rng, k * n);
    float *bt = random_floats(rng, k * n), *first = random_floats(rng, m * ldc);
    size_t size = dml_panels_size(k, n);
    float *panels = random_floats(rng, size), *again = random_floats(rng, size);
    float *c = malloc(m * ldc * sizeof *c);
    assert_non_null(c);
    memcpy(c, first, m * ldc * sizeof *c);
    for (size_t l = 0; l < k; l++)
        for (size_t j = 0; j < n; j++)
            bt[j * k + l] = b[l * n + j];
    dml_panels_pack(k, n, b, n, panels);
    dml_panels_pack_transposed(k, n, bt, k, again);
    assert_memory_equal(panels, again, size * sizeof *panels);
    dml_panels_multiply(m, n, k, a, row, step, panels, c, ldc, c, ldc);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < ldc; j++) {
            double sum = first[i * ldc + j], magnitude = fabs(sum);
            for (size_t l = 0; l < k && j < n; l++) {
                double term = (double)a[i * row + l * step] * b[l * n + j];
                sum += term;
                magnitude += fabs(term);
            }
            assert_true(fabs(c[i * ldc + j] - sum) <= (j < n ? 1e-6 * magnitude : 0));
        }
    /* One row at a time, and what was in c does not matter: the same bits. */
    dml_panels_multiply(m, n, k, a, row, step, panels, NULL, 0, c, ldc);
    for (size_t i = 0; i < m; i++) {
        dml_panels_multiply(1, n, k, a + i * row, row, step, panels, NULL, 0, first, ldc);
        assert_memory_equal(first, c + i * ldc, n * sizeof *c);
    }
    free(a);
    free(b);
    free(bt);
    free(first);
    free(panels);
    free(again);
    free(c);
}

static void panels_of_all_shapes(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(5, DML_PURPOSE_OTHER, 0, 0);
    const size_t columns[] = {1, 7, 8, 15, 16, 17, 31, 32, 33, 100};
    for (size_t m = 1; m <= 14; m++)
        for (size_t s = 0; s < sizeof columns / sizeof *columns; s++)
            for (int transposed = 0; transposed < 2; transposed++) {
                check_panels(&rng, m, columns[s], 1 + dml_rng_below(&rng, 9), transposed);
                check_panels(&rng, m, columns[s], 120 + dml_rng_below(&rng, 300), transposed);
            }
}

/* c = op(a) op(b) plus a row, a matrix, both or nothing; the same bits with any number of threads.
 */
static void check_packed_product(struct dml_rng *rng, size_t m, size_t n, size_t k, int form) {
    int ta = form & 1, tb = form >> 1 & 1;
    size_t lda = (ta ? m : k) + 1, ldb = (tb ? k : n) + 2, ldc = n + 3;
    float *a = random_floats(rng, (ta ? k : m) * lda), *b = random_floats(rng, (tb ? n : k) * ldb);
    float *row = random_floats(rng, n), *matrix = random_floats(rng, m * ldc);
    float *c = random_floats(rng, m * ldc), *again = random_floats(rng, m * ldc);
    float *work = random_floats(rng, dml_product_workspace(n, k));
    const struct dml_product_start start = {form & 4 ? row : NULL, form & 8 ? matrix : NULL, ldc};
    memcpy(again, c, m * ldc * sizeof *c);
    omp_set_num_threads(1);
    dml_product(ta, tb, m, n, k, a, lda, b, ldb, &start, c, ldc, work);
    omp_set_num_threads(3);
    dml_product(ta, tb, m, n, k, a, lda, b, ldb, &start, again, ldc, work);
    assert_memory_equal(c, again, m * ldc * sizeof *c);
    for (int probe = 0; probe < 200; probe++) {
        size_t i = dml_rng_below(rng, m), j = dml_rng_below(rng, n);
        double sum = start.row ? (double)row[j] : 0;
        sum += start.matrix ? (double)matrix[i * ldc + j] : 0;
        double size = fabs(sum);
        for (size_t l = 0; l < k; l++) {
            double term =
                (double)a[ta ? l * lda + i : i * lda + l] * b[tb ? j * ldb + l : l * ldb + j];
            sum += term;
            size += fabs(term);
        }
        assert_true(fabs(c[i * ldc + j] - sum) <= 1e-6 * size + 1e-6);
    }
    if (start.matrix) { /* in place */
        const struct dml_product_start own = {start.row, matrix, ldc};
        dml_product(ta, tb, m, n, k, a, lda, b, ldb, &own, matrix, ldc, work);
        for (size_t i = 0; i < m; i++)
            assert_memory_equal(matrix + i * ldc, c + i * ldc, n * sizeof *c);
    }
    free(a);
    free(b);
    free(row);
    free(matrix);
    free(c);
    free(again);
    free(work);
}

static void packed_products_of_all_shapes(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(8, DML_PURPOSE_OTHER, 0, 0);
    const size_t shapes[][3] = {{1, 1, 1},     {3, 500, 300},  {500, 3, 770}, {13, 37, 19},
                                {97, 1100, 5}, {50, 33, 1601}, {600, 70, 800}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int form = 0; form < 16; form++)
            check_packed_product(&rng, shapes[s][0], shapes[s][1], shapes[s][2], form);
}

/* The product of before, to the bit, and sums of columns. */
static void check_gradients(struct dml_rng *rng, size_t m, size_t n, size_t k) {
    size_t ldg = m + 1, ldx = n + 2;
    float *grad = random_floats(rng, k * ldg), *x = random_floats(rng, k * ldx);
    float *c = random_floats(rng, m * n), *again = random_floats(rng, m * n);
    float *sums = random_floats(rng, m), *work = random_floats(rng, dml_product_workspace(n, k));
    dml_product(1, 0, m, n, k, grad, ldg, x, ldx, NULL, c, n, work);
    dml_product_gradients(m, n, k, grad, ldg, x, ldx, again, n, sums, work);
    assert_memory_equal(c, again, m * n * sizeof *c);
    for (size_t i = 0; i < m; i++) {
        double sum = 0, size = 0;
        for (size_t l = 0; l < k; l++) {
            sum += grad[l * ldg + i];
            size += fabsf(grad[l * ldg + i]);
        }
        assert_true(fabs(sums[i] - sum) <= 1e-6 * size);
    }
    free(grad);
    free(x);
    free(c);
    free(again);
    free(sums);
    free(work);
}

static void gradients_of_all_shapes(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(9, DML_PURPOSE_OTHER, 0, 0);
    const size_t shapes[][3] = {
        {1, 1, 1}, {3, 500, 300}, {13, 37, 19}, {97, 1100, 5}, {50, 33, 1601}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        check_gradients(&rng, shapes[s][0], shapes[s][1], shapes[s][2]);
}

static void gram_is_symmetric(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(4, DML_PURPOSE_OTHER, 0, 0);
    const size_t sizes[][2] = {{1, 5},    {2, 1},     {63, 128}, {65, 300},
                               {200, 77}, {513, 128}, {40, 1100}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s][0], dim = sizes[s][1];
        float *x = random_floats(&rng, n * dim);
        float *one = malloc(n * n * sizeof *one), *two = malloc(n * n * sizeof *two);
        assert_true(one && two);
        omp_set_num_threads(1);
        dml_gram(x, n, dim, one);
        omp_set_num_threads(3);
        dml_gram(x, n, dim, two);
        assert_memory_equal(one, two, n * n * sizeof *one);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double truth = dml_dot(x + i * dim, x + j * dim, dim);
                assert_true(fabs(one[i * n + j] - truth) <=
                            1e-7 * (10 + (double)dim * sqrt((double)dim)));
                assert_true(one[i * n + j] == one[j * n + i]);
            }
        free(x);
        free(one);
        free(two);
    }
}

static double *random_doubles(struct dml_rng *rng, size_t count) {
    double *made = malloc(count * sizeof *made);
    assert_non_null(made);
    for (size_t i = 0; i < count; i++)
        made[i] = dml_rng_normal(rng);
    return made;
}

static void gemm64_with_any_threads(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(5, DML_PURPOSE_OTHER, 0, 0);
    const size_t m = 513, n = 257, k = 64;
    double *a = random_doubles(&rng, m * k), *b = random_doubles(&rng, k * n);
    double *one = malloc(m * n * sizeof *one), *other = malloc(m * n * sizeof *other);
    assert_true(one && other);
    for (int form = 0; form < 4; form++) {
        int ta = form & 1, tb = form >> 1;
        omp_set_num_threads(1);
        dml_gemm64(ta, tb, m, n, k, 1, a, ta ? m : k, b, tb ? k : n, 0, one, n);
        omp_set_num_threads(2);
        dml_gemm64(ta, tb, m, n, k, 1, a, ta ? m : k, b, tb ? k : n, 0, other, n);
        assert_memory_equal(one, other, m * n * sizeof *one);
        for (size_t i = 0; i < m; i += 37)
            for (size_t j = 0; j < n; j += 11) {
                double sum = 0;
                for (size_t l = 0; l < k; l++)
                    sum += a[ta ? l * m + i : i * k + l] * b[tb ? j * k + l : l * n + j];
                assert_true(fabs(one[i * n + j] - sum) < 1e-11);
            }
    }
    free(a);
    free(b);
    free(one);
    free(other);
}

/* What planners of batches compute, each thread of a parallel region for itself. */
enum { POINTS = 512, DIM = 128, SUBSET = 112, VALUES = POINTS * POINTS + 2 * POINTS + 10 };

static void gaussians(const double *x, double *out) {
    struct dml_gaussian gaussian;
    struct dml_frechet frechet;
    assert_ok(dml_gaussian_open(&gaussian, POINTS, DIM));
    assert_ok(dml_gaussian_fit_relative(&gaussian, x, POINTS, 1e-8));
    dml_gaussian_mahalanobis2(&gaussian, POINTS, out);
    assert_ok(dml_gaussian_fit(&gaussian, x, DIM / 2, 0)); /* no Cholesky factor: eigenvalues */
    memcpy(out + POINTS, gaussian.factor, POINTS * sizeof *out);
    dml_gaussian_close(&gaussian);
    assert_ok(dml_frechet_open(&frechet, POINTS, DIM));
    assert_ok(dml_frechet_prepare(&frechet, x, POINTS, 1e-8));
    for (int i = 0; i < 10; i++) {
        uint32_t rows[SUBSET];
        for (uint32_t r = 0; r < SUBSET; r++)
            rows[r] = (r * 4 + (uint32_t)i) % POINTS;
        assert_ok(dml_frechet_distance(&frechet, rows, SUBSET, out + 2 * POINTS + i));
    }
    dml_frechet_close(&frechet);
    dml_self_distances2(x, POINTS, DIM, out + 2 * POINTS + 10);
}

static void planners_with_any_threads(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(6, DML_PURPOSE_OTHER, 0, 0);
    double *x = random_doubles(&rng, POINTS * DIM), *results[3];
    for (int threads = 1; threads <= 3; threads++) {
        double *out = results[threads - 1] = malloc(VALUES * sizeof *out);
        assert_non_null(out);
        omp_set_num_threads(threads);
#pragma omp parallel
#pragma omp single
        gaussians(x, out);
        assert_memory_equal(results[0], out, VALUES * sizeof *out);
    }
    for (int i = 0; i < 3; i++)
        free(results[i]);
    free(x);
}

static void spectra_with_any_threads(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(7, DML_PURPOSE_OTHER, 0, 0);
    const size_t sizes[][2] = {{3000, 128}, {100, 300}, {1100, 513}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s][0], dim = sizes[s][1], count = n < dim ? n : dim;
        float *x = random_floats(&rng, n * dim);
        double *one = malloc(count * sizeof *one), *other = malloc(count * sizeof *other);
        assert_true(one && other);
        omp_set_num_threads(1);
        assert_ok(dml_singular_values(&(struct dml_values){.narrow = x}, n, dim, one));
        for (int threads = 2; threads <= 3; threads++) {
            omp_set_num_threads(threads);
            assert_ok(dml_singular_values(&(struct dml_values){.narrow = x}, n, dim, other));
            assert_memory_equal(one, other, count * sizeof *one);
        }
        free(x);
        free(one);
        free(other);
    }
}

/* Rows about a common one, `apart` from it: inner products to within 1e-6 of what the distances
 * from the mean are worth, whichever precision was taken. */
static void check_inner_products(struct dml_rng *rng, size_t n, size_t dim, double common,
                                 double apart, double slope, bool wide) {
    float *x = random_floats(rng, n * dim), *centre = random_floats(rng, dim);
    for (size_t i = 0; i < n * dim; i++)
        x[i] = (float)(common * centre[i % dim] + apart * x[i]);
    memcpy(x, x + (n - 1) * dim, dim * sizeof *x); /* a duplicate */
    struct dml_inner_products products = {0};
    double *work = malloc(n * sizeof *work);
    assert_non_null(work);
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        assert_ok(dml_inner_products(&products, x, n, dim, slope));
        assert_int_equal(products.wide, wide);
        for (size_t i = 0; i < n; i++) {
            const double *row = dml_inner_products_row(&products, i, work);
            for (size_t j = 0; j < n; j++) {
                double exact = dml_dot(x + i * dim, x + j * dim, dim);
                double norms = sqrt(dml_dot(x + i * dim, x + i * dim, dim) *
                                    dml_dot(x + j * dim, x + j * dim, dim));
                double most = 1e-14 * norms + (wide ? 0 : 3e-7 * products.spread);
                if (fabs(row[j] - exact) > most)
                    fail_msg("%zu %zu: %.3g instead of at most %.3g", n, dim, fabs(row[j] - exact),
                             most);
            }
        }
    }
    dml_inner_products_free(&products);
    free(x);
    free(centre);
    free(work);
}

static void inner_products_in_both_precisions(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(8, DML_PURPOSE_OTHER, 0, 0);
    check_inner_products(&rng, 150, 128, 0, 0.088, 10, false);
    check_inner_products(&rng, 37, 20, 0.1, 0.001, 1000, false); /* nearly the same */
    check_inner_products(&rng, 150, 128, 30, 0.1, 10, false);    /* far from 0 */
    check_inner_products(&rng, 37, 700, 0, 1, 1, true);
    check_inner_products(&rng, 37, 20, 0, 0.01, INFINITY, true);
    check_inner_products(&rng, 2, 1, 0, 0.1, 1, false);
}

struct exponentials_case {
    const struct dml_exponentials *exponentials;
    const int32_t *labels;
};

/* k itself, but where labels are the same. */
static void fill_others(const void *data, size_t i, float *f) {
    const struct exponentials_case *c = data;
    const size_t n = c->exponentials->symmetric.n;
    for (size_t j = 0; j < n; j++)
        f[j] = c->labels[j] == c->labels[i] ? 0 : c->exponentials->k[i * n + j];
}

/* Against libm: k up to a common factor, its sums by label, and k x. */
static void check_exponentials(struct dml_rng *rng, size_t n, size_t dim, double slope) {
    struct dml_exponentials e = {0}, again = {0};
    float *x = random_floats(rng, n * dim), *grad = malloc(n * dim * sizeof *grad);
    int32_t *labels = malloc(n * sizeof *labels);
    const struct dml_batch batch = {.n = n, .dim = dim, .embeddings = x, .labels = labels};
    bool fits;
    assert_true(grad && labels);
    for (size_t i = 0; i < n * dim; i++)
        x[i] /= sqrtf((float)dim);
    for (size_t i = 0; i < n; i++)
        labels[i] = (int32_t)(i / 3);
    omp_set_num_threads(1);
    assert_false(dml_exponentials_forward(&again, &batch, false, slope, &fits));
    omp_set_num_threads(3);
    assert_false(dml_exponentials_forward(&e, &batch, false, slope, &fits));
    assert_true(fits);
    assert_memory_equal(e.k, again.k, n * n * sizeof *e.k);
    const double factor = e.k[1] / exp(slope * dml_dot(x, x + dim, dim));
    const struct exponentials_case rows = {&e, labels};
    dml_symmetric_backward(&e.symmetric, fill_others, &rows, 1, grad);
    for (size_t i = 0; i < n; i++) {
        double same = 0, others = 0, first = 0, size = 0;
        for (size_t j = 0; j < n; j++) {
            double truth = factor * exp(slope * dml_dot(x + i * dim, x + j * dim, dim));
            truth = i == j ? 0 : truth;
            assert_true(fabs(e.k[i * n + j] - truth) <= 6e-6 * truth);
            *(labels[i] == labels[j] ? &same : &others) += truth;
            first += labels[i] == labels[j] ? 0 : truth * x[j * dim];
            size += labels[i] == labels[j] ? 0 : fabs(truth * x[j * dim]);
        }
        struct dml_label_sums sums = dml_sum_by_label(e.k + i * n, labels, labels[i], n);
        assert_true(fabs(sums.same - same) <= 6e-6 * same);
        assert_true(fabs(sums.others - others) <= 6e-6 * others);
        assert_true(fabs(grad[i * dim] - first) <= 1e-5 * size);
    }
    dml_exponentials_free(&e);
    dml_exponentials_free(&again);
    free(x);
    free(grad);
    free(labels);
}

static void exponentials_of_all_shapes(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(9, DML_PURPOSE_OTHER, 0, 0);
    check_exponentials(&rng, 2, 40, 1);
    check_exponentials(&rng, 37, 70, 3);
    check_exponentials(&rng, 112, 128, 4);
    check_exponentials(&rng, 200, 128, 2);
    check_exponentials(&rng, 145, 600, 5);
}

static void large_exponents_are_refused(void **state) {
    (void)state;
    const float apart[] = {3, 0, -3, 0}, close[] = {30, 0, 29, 0};
    const struct dml_batch two = {.n = 2, .dim = 2, .embeddings = apart};
    const struct dml_batch far = {.n = 2, .dim = 2, .embeddings = close};
    struct dml_exponentials e = {0};
    bool fits = true;
    assert_false(dml_exponentials_forward(&e, &two, false, 2, &fits));
    assert_false(fits); /* 2 * 9 */
    assert_false(dml_exponentials_forward(&e, &two, false, 1, &fits));
    assert_true(fits);
    assert_false(dml_exponentials_forward(&e, &far, false, 0.1, &fits));
    assert_true(fits); /* what all exponents share does not count */
    assert_false(dml_exponentials_forward(&e, &far, false, 1, &fits));
    assert_false(fits);
    dml_exponentials_free(&e);
}

/* Every ring is one label's samples, each once; labels that are far apart share places of a table.
 */
static void rings_of_classmates(void **state) {
    (void)state;
    enum { N = 200 };
    struct dml_rng rng = dml_rng_make(11, DML_PURPOSE_OTHER, 0, 0);
    uint32_t next[N], table[4 * N];
    int32_t labels[N];
    assert_true(dml_classmates_table(N) <= 4 * N);
    for (int trial = 0; trial < 20; trial++) {
        const uint64_t classes = (uint64_t[]){1, 7, 60, 100000}[trial % 4];
        const int32_t apart = trial % 3 == 0 ? 1 : 1 << (10 + trial % 5);
        for (size_t i = 0; i < N; i++)
            labels[i] = ((int32_t)dml_rng_below(&rng, classes) % 60000 - 30000) * apart;
        dml_classmates(labels, N, table, next);
        for (size_t i = 0; i < N; i++) {
            size_t alike = 0, met = 1;
            for (size_t j = 0; j < N; j++)
                alike += labels[j] == labels[i];
            for (size_t j = next[i]; j != i; j = next[j], met++)
                assert_true(labels[j] == labels[i] && met < alike);
            assert_int_equal(met, alike);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm_of_all_shapes),
        cmocka_unit_test(panels_of_all_shapes),
        cmocka_unit_test(gram_is_symmetric),
        cmocka_unit_test(rings_of_classmates),
        cmocka_unit_test(packed_products_of_all_shapes),
        cmocka_unit_test(gradients_of_all_shapes),
        cmocka_unit_test(inner_products_in_both_precisions),
        cmocka_unit_test(gemm64_with_any_threads),
        cmocka_unit_test(planners_with_any_threads),
        cmocka_unit_test(spectra_with_any_threads),
        cmocka_unit_test(exponentials_of_all_shapes),
        cmocka_unit_test(large_exponents_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
