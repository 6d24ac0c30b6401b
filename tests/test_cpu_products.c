/* Products of bfloat16 operands, and attention that is made of them, against float64: on sizes
 * around the edges of tiles, the same bits from every implementation and any number of threads. */
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

/* Implementations: of this level, of AVX-512's tiles, and the instruction where there is one. */
static const struct cpu_pairs *implementation(int which) {
    return which == 0                             ? cpu_pairs_emulated()
           : which == 1                           ? cpu_pairs_wide()
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

/* The bits of `form`: transposes, element types, what is added. */
static void check_product(size_t m, size_t n, size_t k, unsigned form) {
    bool ta = form & 1, tb = form & 2;
    enum plan_element ea = form & 4 ? PLAN_BFLOAT16 : PLAN_FLOAT32,
                      eb = form & 8 ? PLAN_BFLOAT16 : PLAN_FLOAT32,
                      ec = form & 16 ? PLAN_BFLOAT16 : PLAN_FLOAT32;
    size_t lda = (ta ? m : k) + dml_rng_below(&rng, 3), ldb = (tb ? k : n) + 1, ldc = n + 3;
    struct source a = source_make(ta ? k : m, lda, ea), b = source_make(tb ? n : k, ldb, eb);
    struct source row = source_make(1, n, PLAN_FLOAT32), matrix = source_make(m, ldc, PLAN_FLOAT32);
    size_t bytes = m * ldc * plan_element_size(ec);
    void *results[3] = {NULL};
    for (int which = 0; which < 3; which++) {
        const struct cpu_pairs *pairs = implementation(which);
        for (int threads = 1; pairs && threads <= 3; threads += 2) {
            omp_set_num_threads(threads);
            cpu_pair *work = malloc(pairs->workspace(n, k) * sizeof *work);
            void *c = blank(m * ldc, ec);
            assert_non_null(work);
            const struct cpu_pair_product product = {ta,
                                                     tb,
                                                     m,
                                                     n,
                                                     k,
                                                     a.matrix,
                                                     b.matrix,
                                                     {.c = c,
                                                      .element = ec,
                                                      .ldc = ldc,
                                                      .row = form & 32 ? row.stored : NULL,
                                                      .matrix = form & 64 ? matrix.stored : NULL,
                                                      .ld = ldc}};
            pairs->product(&product, work);
            if (!results[0])
                results[0] = c;
            else
                assert_memory_equal(c, results[0], bytes);
            if (c != results[0])
                free(c);
            free(work);
        }
    }
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0, size = 0;
            for (size_t l = 0; l < k; l++) {
                double term = a.rounded[ta ? l * lda + i : i * lda + l] *
                              b.rounded[tb ? j * ldb + l : l * ldb + j];
                sum += term;
                size += fabs(term);
            }
            double added[2] = {form & 32 ? stored(row.stored, PLAN_FLOAT32, j) : 0,
                               form & 64 ? stored(matrix.stored, PLAN_FLOAT32, i * ldc + j) : 0};
            sum += added[0] + added[1];
            size += fabs(added[0]) + fabs(added[1]);
            double error = fabs(stored(results[0], ec, i * ldc + j) - sum);
            double most = 0x1p-24 * (double)(k < 40 ? k + 2 : 40) * size +
                          (ec == PLAN_BFLOAT16 ? 0x1.01p-8 * fabs(sum) : 0);
            if (!(error <= most))
                fail_msg("%zu %zu %zu, form %u: element (%zu, %zu) is off by %g of %g", m, n, k,
                         form, i, j, error, most);
        }
    for (size_t i = 0; i < m; i++) { /* between rows */
        static const unsigned char kept[12] = {0x41, 0x41, 0x41, 0x41, 0x41, 0x41,
                                               0x41, 0x41, 0x41, 0x41, 0x41, 0x41};
        size_t size = plan_element_size(ec);
        assert_memory_equal((char *)results[0] + (i * ldc + n) * size, kept, 3 * size);
    }
    free(results[0]);
    source_free(&a);
    source_free(&b);
    source_free(&row);
    source_free(&matrix);
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
    for (int which = 0; which < 3; which++) {
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
    void *ys[3] = {NULL}, *grads[3] = {NULL};
    float *log_sums = malloc(tokens * sizeof *log_sums);
    assert_non_null(log_sums);
    for (int which = 0; which < 3; which++) {
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
        assert_memory_equal(y, ys[0], tokens * channels * size);
        assert_memory_equal(out, grads[0], tokens * 3 * channels * size);
    }
    for (int which = 0; which < 3; which++) {
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
