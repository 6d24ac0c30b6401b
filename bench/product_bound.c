#include "product_bound.h"

#include "backends/cpu/convolution.h"
#include "backends/cpu/descriptors.h"
#include "backends/cpu/pairs.h"
#include "base/half.h"
#include "base/progress.h"
#include "math/linear.h"
#include "math/panels.h"
#include "math/products.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum way { BY_PANELS, BY_ONEDNN, BY_BLAS, WAYS };

/* c (m, n) = op(a) op(b) as dml_gemm has it; in attention, one for each image and head. */
struct product {
    bool transpose_a, transpose_b;
    size_t m, n, k, count;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arguments[3];
    enum way way;
};

struct product_bound {
    struct product *products;
    int count;
    bool bf16;
    const struct cpu_pairs *pairs; /* of bfloat16 */
    double flops;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    void *memory[3]; /* a, b and c of any product */
    size_t floats;   /* of each */
    float *panels;   /* of attention, of each thread, one after the other */
    size_t panel_floats;
    float *work; /* of a linear layer's product */
    size_t work_floats;
};

static void check(dnnl_status_t status) {
    if (status == dnnl_success)
        return;
    fprintf(stderr, "bench: oneDNN: product: status %d\n", (int)status);
    exit(1);
}

static void add(struct product_bound *bound, struct product product) {
    const size_t sizes[] = {product.m * product.k, product.k * product.n, product.m * product.n};
    for (int i = 0; i < 3; i++)
        if (product.count * sizes[i] > bound->floats)
            bound->floats = product.count * sizes[i];
    size_t panels = bound->bf16 ? bound->pairs->panels_size(product.k, product.n)
                                : dml_panels_size(product.k, product.n);
    size_t work = bound->bf16 ? bound->pairs->workspace(product.n, product.k)
                              : dml_product_workspace(product.n, product.k);
    if (product.count > 1 && panels > bound->panel_floats)
        bound->panel_floats = panels;
    if (product.count == 1 && work > bound->work_floats)
        bound->work_floats = work;
    bound->flops += 2.0 * (double)(product.m * product.n) * (double)(product.k * product.count);
    bound->products[bound->count++] = product;
}

/* y (rows, outputs) = x (rows, inputs) W^T, and its two gradients. */
static void add_linear(struct product_bound *bound, size_t rows, size_t inputs, size_t outputs,
                       bool backward, bool input_gradient) {
    add(bound, (struct product){false, true, rows, outputs, inputs, 1, NULL, {{0}}, BY_PANELS});
    if (backward)
        add(bound, (struct product){true, false, outputs, inputs, rows, 1, NULL, {{0}}, BY_PANELS});
    if (backward && input_gradient)
        add(bound,
            (struct product){false, false, rows, inputs, outputs, 1, NULL, {{0}}, BY_PANELS});
}

static void add_attention(struct product_bound *bound, const struct dml_node *node, size_t batch,
                          bool backward) {
    size_t t = (size_t)node->tokens, d = (size_t)(node->channels / node->heads);
    size_t count = batch * (size_t)node->heads;
    int wide = backward ? 2 : 1,
        narrow = backward ? 4 : 1; /* q k^T, grad v^T; p v, of v, q and k */
    for (int i = 0; i < wide; i++)
        add(bound, (struct product){false, true, t, t, d, count, NULL, {{0}}, BY_PANELS});
    for (int i = 0; i < narrow; i++)
        add(bound, (struct product){i > 1, false, t, d, t, count, NULL, {{0}}, BY_PANELS});
}

static cpu_md matrix(const struct product_bound *bound, bool narrow, size_t rows, size_t columns,
                     bool transpose) {
    cpu_md md;
    check(cpu_md_create(&md, 2, (dnnl_dims_t){(dnnl_dim_t)rows, (dnnl_dim_t)columns},
                        narrow && bound->bf16 ? dnnl_bf16 : dnnl_f32,
                        transpose ? dnnl_ba : dnnl_ab));
    return md;
}

static void make_primitive(struct product_bound *bound, struct product *p) {
    static const int names[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    cpu_md mds[] = {matrix(bound, true, p->m, p->k, p->transpose_a && !bound->bf16),
                    matrix(bound, true, p->k, p->n, p->transpose_b),
                    matrix(bound, false, p->m, p->n, false)};
    dnnl_primitive_desc_t pd;
    check(cpu_matmul_pd(&pd, bound->engine, mds[0], mds[1], mds[2], NULL));
    check(dnnl_primitive_create(&p->primitive, pd));
    dnnl_primitive_desc_destroy(pd);
    for (int i = 0; i < 3; i++) {
        p->arguments[i].arg = names[i];
        check(dnnl_memory_create(&p->arguments[i].memory, mds[i], bound->engine, bound->memory[i]));
        cpu_md_destroy(mds[i]);
    }
}

/* Whether oneDNN has fast products: of bfloat16 not where they are emulated. */
static bool has_onednn(const struct product_bound *bound) {
    return !bound->bf16 || cpu_engine_bf16() == CPU_BF16_NATIVE;
}

static void by_onednn(struct product_bound *bound, struct product *p) {
    check(dnnl_primitive_execute(p->primitive, bound->stream, 3, p->arguments));
    check(dnnl_stream_wait(bound->stream));
}

static void by_blas(struct product_bound *bound, const struct product *p) {
    dml_gemm(p->transpose_a, p->transpose_b, p->m, p->n, p->k, 1.0f, bound->memory[0],
             p->transpose_a ? p->m : p->k, bound->memory[1], p->transpose_b ? p->k : p->n, 0.0f,
             bound->memory[2], p->n);
}

static void by_panels(struct product_bound *bound, const struct product *p) {
    size_t lda = p->transpose_a ? p->m : p->k, ldb = p->transpose_b ? p->k : p->n;
    if (!bound->bf16) {
        dml_product(p->transpose_a, p->transpose_b, p->m, p->n, p->k, bound->memory[0], lda,
                    bound->memory[1], ldb, NULL, bound->memory[2], p->n, bound->work);
        return;
    }
    const struct cpu_pair_product product = {.transpose_a = p->transpose_a,
                                             .transpose_b = p->transpose_b,
                                             .m = p->m,
                                             .n = p->n,
                                             .k = p->k,
                                             .a = {bound->memory[0], PLAN_BFLOAT16, lda},
                                             .b = {bound->memory[1], PLAN_BFLOAT16, ldb},
                                             .result = {.c = bound->memory[2], .ldc = p->n}};
    bound->pairs->product(&product, (cpu_pair *)bound->work);
}

/* One image and head: a is in pairs, which is how a softmax can be stored. */
static void by_pairs(const struct product_bound *bound, const struct product *p, size_t i,
                     float *panels) {
    size_t pairs = (p->k + 1) / 2;
    const cpu_pair *a = (const cpu_pair *)bound->memory[0] + i * p->m * pairs;
    const struct cpu_pair_rows left = {a, p->transpose_a ? 1 : pairs, p->transpose_a ? p->m : 1};
    bound->pairs->pack(p->transpose_b, p->k, p->n,
                       (struct cpu_matrix){(uint16_t *)bound->memory[1] + i * p->k * p->n,
                                           PLAN_BFLOAT16, p->transpose_b ? p->k : p->n},
                       (cpu_pair *)panels);
    bound->pairs->multiply(
        p->m, p->n, p->k, left, (cpu_pair *)panels,
        (struct cpu_pair_result){.c = (float *)bound->memory[2] + i * p->m * p->n, .ldc = p->n});
}

static void by_head(struct product_bound *bound, const struct product *p) {
    const float *a = bound->memory[0], *b = bound->memory[1];
    float *c = bound->memory[2];
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < p->count; i++) {
        float *panels = bound->panels + (size_t)omp_get_thread_num() * bound->panel_floats;
        if (bound->bf16) {
            by_pairs(bound, p, i, panels);
            continue;
        }
        const float *right = b + i * p->k * p->n;
        if (p->transpose_b)
            dml_panels_pack_transposed(p->k, p->n, right, p->k, panels);
        else
            dml_panels_pack(p->k, p->n, right, p->n, panels);
        dml_panels_multiply(p->m, p->n, p->k, a + i * p->m * p->k, p->transpose_a ? 1 : p->k,
                            p->transpose_a ? p->m : 1, panels, NULL, 0, c + i * p->m * p->n, p->n);
    }
}

static void run(struct product_bound *bound, struct product *p) {
    if (p->count > 1)
        by_head(bound, p);
    else if (p->way == BY_PANELS)
        by_panels(bound, p);
    else if (p->way == BY_BLAS)
        by_blas(bound, p);
    else
        by_onednn(bound, p);
}

static double shortest(struct product_bound *bound, struct product *p, enum way way) {
    double best = 1e9;
    p->way = way;
    for (int i = 0; i < 3; i++) {
        double start = dml_now();
        run(bound, p);
        best = dml_now() - start < best ? dml_now() - start : best;
    }
    return best;
}

/* Chooses the fastest way, once for every shape. */
static void choose(struct product_bound *bound) {
    for (int i = 0; i < bound->count; i++) {
        struct product *p = &bound->products[i];
        if (p->count > 1)
            continue;
        if (has_onednn(bound))
            make_primitive(bound, p);
        int same = 0;
        for (; same < i; same++) {
            const struct product *other = &bound->products[same];
            if (other->count == 1 && other->m == p->m && other->n == p->n && other->k == p->k &&
                other->transpose_a == p->transpose_a && other->transpose_b == p->transpose_b)
                break;
        }
        if (same < i) {
            p->way = bound->products[same].way;
            continue;
        }
        double best = INFINITY;
        enum way fastest = BY_PANELS;
        for (enum way way = BY_PANELS; way < WAYS; way++) {
            if ((way == BY_ONEDNN && !has_onednn(bound)) || (way == BY_BLAS && bound->bf16))
                continue;
            double seconds = shortest(bound, p, way);
            fastest = seconds < best ? way : fastest;
            best = seconds < best ? seconds : best;
        }
        p->way = fastest;
    }
}

struct product_bound *product_bound_create(const struct dml_graph *graph, size_t batch,
                                           bool backward, bool bf16) {
    if (bf16 && cpu_engine_bf16() == CPU_BF16_NONE)
        return NULL;
    struct product_bound *bound = calloc(1, sizeof *bound);
    bound->bf16 = bf16;
    bound->pairs = cpu_engine_bf16() == CPU_BF16_NATIVE ? cpu_pairs_native() : cpu_pairs_emulated();
    bound->products = calloc((size_t)graph->node_count * 6, sizeof *bound->products);
    for (int i = 0; i < graph->node_count; i++) {
        const struct dml_node *node = &graph->nodes[i];
        if (!node->input_count)
            continue;
        const struct dml_node *input = &graph->nodes[node->inputs[0]];
        size_t pixels = (size_t)node->height * (size_t)node->width;
        if (node->op == DML_OP_CONV)
            add_linear(bound, batch * pixels,
                       (size_t)input->channels * (size_t)(node->kernel_h * node->kernel_w),
                       (size_t)node->channels, backward, false);
        if (node->op == DML_OP_LINEAR)
            add_linear(bound, batch * (size_t)(node->tokens ? node->tokens : 1),
                       (size_t)input->channels, (size_t)node->channels, backward, true);
        if (node->op == DML_OP_ATTENTION)
            add_attention(bound, node, batch, backward);
    }
    for (int k = 0; k < 3; k++) {
        float *memory = bound->memory[k] = aligned_alloc(64, (bound->floats + 15) / 16 * 64);
        for (size_t i = 0; i < bound->floats; i++) {
            float value = (float)(i % 31) * 0.01f - 0.15f; /* ordinary as a pair of bfloat16, too */
            uint16_t pair[2] = {dml_bfloat16_bits(value), dml_bfloat16_bits(value)};
            memcpy(&memory[i], bf16 ? (const void *)pair : &value, sizeof value);
        }
    }
    bound->panel_floats = (bound->panel_floats + 15) / 16 * 16;
    size_t threads = (size_t)omp_get_max_threads();
    bound->panels = aligned_alloc(64, threads * bound->panel_floats * sizeof(float) + 64);
    bound->work = aligned_alloc(64, (bound->work_floats + 15) / 16 * 64);
    check(dnnl_engine_create(&bound->engine, dnnl_cpu, 0));
    check(dnnl_stream_create(&bound->stream, bound->engine, dnnl_stream_default_flags));
    choose(bound);
    return bound;
}

void product_bound_free(struct product_bound *bound) {
    for (int p = 0; p < bound->count; p++) {
        if (!bound->products[p].primitive)
            continue;
        for (int k = 0; k < 3; k++)
            dnnl_memory_destroy(bound->products[p].arguments[k].memory);
        dnnl_primitive_destroy(bound->products[p].primitive);
    }
    dnnl_stream_destroy(bound->stream);
    dnnl_engine_destroy(bound->engine);
    for (int k = 0; k < 3; k++)
        free(bound->memory[k]);
    free(bound->panels);
    free(bound->work);
    free(bound->products);
    free(bound);
}

void product_bound_run(struct product_bound *bound) {
    for (int p = 0; p < bound->count; p++)
        run(bound, &bound->products[p]);
}

double product_bound_flops(const struct product_bound *bound) {
    return bound->flops;
}
