/* Products of bfloat16 operands, and attention that is made of them, against float64: on sizes
 * around the edges of tiles, the same bits for any number of threads and from both emulations. A
 * processor's instruction may round its sums otherwise. */
#include "backends/cpu/convolution.h"
#include "backends/cpu/operations/attention.h"
#include "base/half.h"
#include "dml/rng.h"
#include "support/golden.h"
#include "support/pairs_wide.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static struct dml_rng rng;

enum { EMULATED, WIDE, NATIVE, IMPLEMENTATIONS };

/* Implementations: of this level, of AVX-512's tiles, and the instruction where there is one. */
static const struct cpu_pairs *implementation(int which) {
    return which == EMULATED                      ? cpu_pairs_emulated()
           : which == WIDE                        ? cpu_pairs_wide()
           : cpu_engine_bf16() == CPU_BF16_NATIVE ? cpu_pairs_native()
                                                  : NULL;
}

/* A matrix (rows, ld) of random values, stored as it says, and what bfloat16 makes of them. */
struct source {
    struct cpu_matrix matrix;
    void *stored;
    double *rounded;
};

static struct source source_make(size_t rows, size_t ld, enum plan_element element) {
    size_t count = rows * ld;
    struct source s = {.stored = malloc(count * plan_element_size(element)),
                       .rounded = malloc(count * sizeof *s.rounded)};
    assert_true(s.stored && s.rounded);
    for (size_t i = 0; i < count; i++) {
        float value = (float)dml_rng_normal(&rng);
        uint16_t bits = dml_bfloat16_bits(value);
        if (element == PLAN_BFLOAT16)
            ((uint16_t *)s.stored)[i] = bits;
        else
            ((float *)s.stored)[i] = value;
        s.rounded[i] = dml_bfloat16_value(bits);
    }
    s.matrix = (struct cpu_matrix){s.stored, element, ld};
    return s;
}

static void source_free(struct source *s) {
    free(s->stored);
    free(s->rounded);
}

static double stored(const void *values, enum plan_element element, size_t i) {
    return element == PLAN_BFLOAT16 ? dml_bfloat16_value(((const uint16_t *)values)[i])
                                    : ((const float *)values)[i];
}

/* `count` elements of c before a product: something else wherever it should not write. */
static void *blank(size_t count, enum plan_element element) {
    unsigned char *made = malloc(count * plan_element_size(element));
    assert_non_null(made);
    memset(made, 0x41, count * plan_element_size(element));
    return made;
}

/* A product, its operands, and what is added to it. */
struct product_case {
    struct cpu_pair_product product;
    struct source a, b, row, matrix;
};

/* Of that form, by its bits: transposes, element types, what is added. */
static struct product_case product_case_make(size_t m, size_t n, size_t k, unsigned form) {
    bool ta = form & 1, tb = form & 2;
    size_t lda = (ta ? m : k) + dml_rng_below(&rng, 3), ldb = (tb ? k : n) + 1, ldc = n + 3;
    struct product_case c = {
        .a = source_make(ta ? k : m, lda, form & 4 ? PLAN_BFLOAT16 : PLAN_FLOAT32),
        .b = source_make(tb ? n : k, ldb, form & 8 ? PLAN_BFLOAT16 : PLAN_FLOAT32),
        .row = source_make(1, n, PLAN_FLOAT32),
        .matrix = source_make(m, ldc, PLAN_FLOAT32)};
    c.product = (struct cpu_pair_product){ta,
                                          tb,
                                          m,
                                          n,
                                          k,
                                          c.a.matrix,
                                          c.b.matrix,
                                          {.element = form & 16 ? PLAN_BFLOAT16 : PLAN_FLOAT32,
                                           .ldc = ldc,
                                           .row = form & 32 ? c.row.stored : NULL,
                                           .matrix = form & 64 ? c.matrix.stored : NULL,
                                           .ld = ldc}};
    return c;
}

static void product_case_free(struct product_case *c) {
    source_free(&c->a);
    source_free(&c->b);
    source_free(&c->row);
    source_free(&c->matrix);
}

/* What is made by so many threads; free() it. */
static void *product_by(const struct cpu_pairs *pairs, int threads, const struct product_case *c) {
    struct cpu_pair_product p = c->product;
    cpu_pair *work = malloc(pairs->workspace(p.n, p.k) * sizeof *work);
    assert_non_null(work);
    p.result.c = blank(p.m * p.result.ldc, p.result.element);
    omp_set_num_threads(threads);
    pairs->product(&p, work);
    free(work);
    return p.result.c;
}

/* An element of the product in float64, and the sum of its terms' sizes. */
static double expected(const struct product_case *c, size_t i, size_t j, double *size) {
    const struct cpu_pair_product *p = &c->product;
    size_t lda = p->a.ld, ldb = p->b.ld;
    double sum = 0;
    for (size_t l = 0; l < p->k; l++) {
        double term = c->a.rounded[p->transpose_a ? l * lda + i : i * lda + l] *
                      c->b.rounded[p->transpose_b ? j * ldb + l : l * ldb + j];
        sum += term;
        *size += fabs(term);
    }
    double row = p->result.row ? p->result.row[j] : 0,
           matrix = p->result.matrix ? p->result.matrix[i * p->result.ld + j] : 0;
    *size += fabs(row) + fabs(matrix);
    return sum + row + matrix;
}

/* Fails where one of the results, of which some may be NULL, is not the product, or was written
 * between rows. */
static void check_results(const struct product_case *c, void *const *results) {
    static const unsigned char kept[12] = {0x41, 0x41, 0x41, 0x41, 0x41, 0x41,
                                           0x41, 0x41, 0x41, 0x41, 0x41, 0x41};
    const struct cpu_pair_product *p = &c->product;
    enum plan_element element = p->result.element;
    size_t k = p->k, bytes = plan_element_size(element), ldc = p->result.ldc;
    for (size_t i = 0; i < p->m; i++) {
        for (size_t j = 0; j < p->n; j++) {
            double size = 0, sum = expected(c, i, j, &size);
            double most = 0x1p-24 * (double)(k < 40 ? k + 2 : 40) * size +
                          (element == PLAN_BFLOAT16 ? 0x1.01p-8 * fabs(sum) : 0);
            for (int which = 0; which < IMPLEMENTATIONS; which++) {
                double error = 0;
                if (results[which])
                    error = fabs(stored(results[which], element, i * ldc + j) - sum);
                if (!(error <= most))
                    fail_msg("%zu %zu %zu, by %d: element (%zu, %zu) is off by %g of %g", p->m,
                             p->n, k, which, i, j, error, most);
            }
        }
        for (int which = 0; which < IMPLEMENTATIONS; which++)
            if (results[which])
                assert_memory_equal((char *)results[which] + (i * ldc + p->n) * bytes, kept,
                                    3 * bytes);
    }
}

static void check_product(size_t m, size_t n, size_t k, unsigned form) {
    struct product_case c = product_case_make(m, n, k, form);
    size_t bytes = m * c.product.result.ldc * plan_element_size(c.product.result.element);
    void *results[IMPLEMENTATIONS] = {NULL};
    for (int which = 0; which < IMPLEMENTATIONS; which++) {
        const struct cpu_pairs *pairs = implementation(which);
        if (!pairs)
            continue;
        void *by_one = results[which] = product_by(pairs, 1, &c);
        void *by_three = product_by(pairs, 3, &c);
        assert_memory_equal(by_three, by_one, bytes);
        free(by_three);
    }
    assert_memory_equal(results[WIDE], results[EMULATED], bytes);
    check_results(&c, results);
    for (int which = 0; which < IMPLEMENTATIONS; which++)
        free(results[which]);
    product_case_free(&c);
}

static void products_of_all_shapes(void **state) {
    (void)state;
    static const size_t heights[] = {1, 5, 6, 7, 11, 12, 13, 25, 50},
                        widths[] = {1, 7, 8, 9, 16, 17, 31, 32, 33, 67},
                        depths[] = {1, 2, 3, 15, 16, 17, 40, 197};
    unsigned form = 0;
    for (size_t i = 0; i < sizeof heights / sizeof *heights; i++)
        for (size_t j = 0; j < sizeof widths / sizeof *widths; j++)
            for (size_t l = 0; l < sizeof depths / sizeof *depths; l++, form++) /* 128 forms */
                check_product(heights[i], widths[j], depths[l], form * 37 % 128);
    /* k in parts, unless the result is bfloat16, and n in parts. */
    for (form = 0; form < 128; form += 3)
        check_product(19, 35, 1701, form);
    check_product(5, 1100, 40, 0);
    check_product(5, 1100, 1601, 16);
    check_product(13, 70, 6200, 16 + 1);
    check_product(130, 520, 70, 127);
}

/* A result that is added to itself. */
static void results_may_be_added_to(void **state) {
    (void)state;
    enum { M = 29, N = 45, K = 1650 };
    struct source a = source_make(M, K, PLAN_BFLOAT16), b = source_make(K, N, PLAN_FLOAT32);
    struct source c = source_make(M, N, PLAN_FLOAT32);
    for (int which = 0; which < IMPLEMENTATIONS; which++) {
        const struct cpu_pairs *pairs = implementation(which);
        if (!pairs)
            continue;
        cpu_pair *work = malloc(pairs->workspace(N, K) * sizeof *work);
        float *apart = malloc(M * N * sizeof *apart), *same = malloc(M * N * sizeof *same);
        assert_true(work && apart && same);
        memcpy(same, c.stored, M * N * sizeof *same);
        struct cpu_pair_product product = {
            false, false,    M,        N,
            K,     a.matrix, b.matrix, {.c = apart, .ldc = N, .matrix = c.stored, .ld = N}};
        pairs->product(&product, work);
        product.result.c = same;
        product.result.matrix = same;
        pairs->product(&product, work);
        assert_memory_equal(same, apart, M * N * sizeof *same);
        free(work);
        free(apart);
        free(same);
    }
    source_free(&a);
    source_free(&b);
    source_free(&c);
}

/* One head among others, and what it must give. */
struct attention_case {
    struct cpu_attention sizes;
    struct source x, grad; /* (tokens, 3 channels), (tokens, channels) */
    size_t first;          /* channel of the head */
    double *p, *slopes;    /* (tokens, tokens): the softmax, and the gradient of q k^T */
};

static double x_at(const struct attention_case *c, int part, size_t t, size_t i) {
    size_t channels = c->sizes.channels;
    return c->x.rounded[t * 3 * channels + (size_t)part * channels + c->first + i];
}
static double grad_at(const struct attention_case *c, size_t t, size_t i) {
    return c->grad.rounded[t * c->sizes.channels + c->first + i];
}

static void expect(struct attention_case *c) {
    size_t tokens = c->sizes.tokens, dim = c->sizes.dim;
    double scale = 1 / sqrt((double)dim);
    c->p = calloc(tokens * tokens, sizeof *c->p);
    c->slopes = calloc(tokens * tokens, sizeof *c->slopes);
    assert_true(c->p && c->slopes);
    for (size_t t = 0; t < tokens; t++) {
        double *p = c->p + t * tokens, *d = c->slopes + t * tokens, sum = 0, dot = 0;
        for (size_t u = 0; u < tokens; u++) {
            double score = 0;
            for (size_t i = 0; i < dim; i++) {
                score += x_at(c, 0, t, i) * x_at(c, 1, u, i);
                d[u] += grad_at(c, t, i) * x_at(c, 2, u, i);
            }
            sum += p[u] = exp(score * scale);
        }
        for (size_t u = 0; u < tokens; u++) {
            p[u] /= sum;
            dot += p[u] * d[u];
        }
        for (size_t u = 0; u < tokens; u++)
            d[u] = p[u] * (d[u] - dot) * scale;
    }
}

/* Fails unless `made` is the sum of `terms` terms that were rounded once, and then rounded. */
static void close_enough(double made, double sum, double size, double slack, const char *what) {
    double most = 0x1.01p-8 * (size + fabs(sum)) + slack;
    if (!(fabs(made - sum) <= most))
        fail_msg("%s: %g instead of %g, off by %g of %g", what, made, sum, fabs(made - sum), most);
}

static void check_outputs(const struct attention_case *c, const void *y, const void *grads,
                          enum plan_element element) {
    size_t tokens = c->sizes.tokens, dim = c->sizes.dim, channels = c->sizes.channels;
    for (size_t t = 0; t < tokens; t++)
        for (size_t i = 0; i < dim; i++) {
            double sum[4] = {0}, size[4] = {0}; /* y, and gradients of q, k and v */
            for (size_t u = 0; u < tokens; u++) {
                const double terms[] = {c->p[t * tokens + u] * x_at(c, 2, u, i),
                                        c->slopes[t * tokens + u] * x_at(c, 1, u, i),
                                        c->slopes[u * tokens + t] * x_at(c, 0, u, i),
                                        c->p[u * tokens + t] * grad_at(c, u, i)};
                for (int k = 0; k < 4; k++) {
                    sum[k] += terms[k];
                    size[k] += fabs(terms[k]);
                }
            }
            close_enough(stored(y, element, t * channels + c->first + i), sum[0], size[0], 1e-6,
                         "output");
            for (size_t k = 0; k < 3; k++)
                close_enough(stored(grads, element, t * 3 * channels + k * channels + c->first + i),
                             sum[k + 1], size[k + 1], 2e-5,
                             k == 0   ? "q"
                             : k == 1 ? "k"
                                      : "v");
        }
}

static void check_attention(size_t tokens, size_t dim, enum plan_element element) {
    struct attention_case c = {
        .sizes = {.n = 1, .heads = 3, .tokens = tokens, .dim = dim, .channels = 3 * dim + 1},
        .first = dim};
    size_t channels = c.sizes.channels;
    c.x = source_make(tokens, 3 * channels, element);
    c.grad = source_make(tokens, channels, element);
    expect(&c);
    void *ys[IMPLEMENTATIONS] = {NULL}, *grads[IMPLEMENTATIONS] = {NULL};
    float *log_sums = malloc(tokens * sizeof *log_sums);
    assert_non_null(log_sums);
    for (int which = 0; which < IMPLEMENTATIONS; which++) {
        c.sizes.pairs = implementation(which);
        if (!c.sizes.pairs)
            continue;
        size_t size = plan_element_size(element);
        struct cpu_matrix x = c.x.matrix, grad = c.grad.matrix;
        x.values = (const char *)x.values + c.first * size;
        grad.values = (const char *)grad.values + c.first * size;
        void *y = ys[which] = blank(tokens * channels, element);
        void *out = grads[which] = blank(tokens * 3 * channels, element);
        void *buffer = aligned_alloc(64, cpu_attention_pairs_forward_bytes(&c.sizes));
        assert_non_null(buffer);
        cpu_attention_pairs_forward(&c.sizes, x,
                                    (struct cpu_pair_result){.c = (char *)y + c.first * size,
                                                             .element = element,
                                                             .ldc = channels},
                                    log_sums, buffer);
        free(buffer);
        buffer = aligned_alloc(64, cpu_attention_pairs_backward_bytes(&c.sizes));
        assert_non_null(buffer);
        cpu_attention_pairs_backward(&c.sizes, x, log_sums, grad,
                                     (struct cpu_pair_result){.c = (char *)out + c.first * size,
                                                              .element = element,
                                                              .ldc = 3 * channels},
                                     buffer);
        free(buffer);
        check_outputs(&c, y, out, element);
        if (which == WIDE) {
            assert_memory_equal(y, ys[EMULATED], tokens * channels * size);
            assert_memory_equal(out, grads[EMULATED], tokens * 3 * channels * size);
        }
    }
    for (int which = 0; which < IMPLEMENTATIONS; which++) {
        free(ys[which]);
        free(grads[which]);
    }
    free(log_sums);
    free(c.p);
    free(c.slopes);
    source_free(&c.x);
    source_free(&c.grad);
}

static void attention_of_all_sizes(void **state) {
    (void)state;
    static const size_t tokens[] = {1, 2, 5, 33, 47, 48, 49, 95, 197}, dims[] = {1, 3, 8, 20, 64};
    for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++)
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
            check_attention(tokens[t], dims[d], PLAN_BFLOAT16);
            check_attention(tokens[t], dims[d], PLAN_FLOAT32);
        }
}

int main(void) {
    rng = dml_rng_make(7, DML_PURPOSE_OTHER, 0, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_all_shapes),
        cmocka_unit_test(results_may_be_added_to),
        cmocka_unit_test(attention_of_all_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
