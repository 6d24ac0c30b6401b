#include "backends/cpu/products.h"

#include "backends/cpu/align.h"
#include "backends/cpu/convolution.h"
#include "backends/cpu/narrow.h"
#include "backends/cpu/onednn.h"

struct cpu_rounding cpu_rounding_of(struct cpu_engine *engine) {
    if (cpu_engine_bf16() == CPU_BF16_EMULATED)
        return (struct cpu_rounding){cpu_pairs_emulated(), NULL};
    if (cpu_engine_tiles() || !cpu_pairs_native())
        return (struct cpu_rounding){NULL, engine};
    return (struct cpu_rounding){cpu_pairs_native(), NULL};
}

size_t cpu_product_scratch(struct cpu_rounding rounding, size_t m, size_t n, size_t k) {
    if (rounding.pairs)
        return rounding.pairs->workspace(n, k) * sizeof(cpu_pair);
    if (!rounding.engine)
        return dml_product_workspace(n, k) * sizeof(float);
    return cpu_aligned_bytes(m * k * sizeof(uint16_t)) +
           cpu_aligned_bytes(k * n * sizeof(uint16_t));
}

static bool begins(const struct cpu_product *p) {
    return p->start.row || p->start.matrix;
}

static void begin(const struct cpu_product *p) {
#pragma omp parallel for schedule(static) if (begins(p))
    for (size_t i = 0; i < p->m; i++)
        dml_product_begin(&p->start, i, 0, 1, p->n, (float *)p->c + i * p->ldc, p->ldc);
}

/* What oneDNN needs for one product; made each time, since oneDNN's own cache holds what is costly.
 */
struct objects {
    cpu_md mds[3]; /* a, b, c */
    dnnl_post_ops_t post;
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    dnnl_exec_arg_t arguments[3];
};

static void destroy(struct objects *o) {
    for (int i = 0; i < 3; i++) {
        if (o->arguments[i].memory)
            dnnl_memory_destroy(o->arguments[i].memory);
        cpu_md_destroy(o->mds[i]);
    }
    if (o->stream)
        dnnl_stream_destroy(o->stream);
    if (o->primitive)
        dnnl_primitive_destroy(o->primitive);
    if (o->pd)
        dnnl_primitive_desc_destroy(o->pd);
    if (o->attributes)
        dnnl_primitive_attr_destroy(o->attributes);
    if (o->post)
        dnnl_post_ops_destroy(o->post);
}

#define NEXT(call)                                                                                 \
    do {                                                                                           \
        dnnl_status_t next_status = (call);                                                        \
        if (next_status != dnnl_success)                                                           \
            return next_status;                                                                    \
    } while (0)

/* a (rows, k) and b, (k, n) or its transpose, without gaps, to rows of c. */
static dnnl_status_t multiply(struct objects *o, dnnl_engine_t engine, const struct cpu_product *p,
                              size_t rows, uint16_t *a, uint16_t *b, float *c) {
    const dnnl_dim_t m = (dnnl_dim_t)rows, n = (dnnl_dim_t)p->n, k = (dnnl_dim_t)p->k;
    void *const handles[] = {a, b, c};
    static const int names[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    NEXT(cpu_md_create(&o->mds[0], 2, (dnnl_dims_t){m, k}, dnnl_bf16, dnnl_ab));
    NEXT(cpu_md_create(&o->mds[1], 2, (dnnl_dims_t){k, n}, dnnl_bf16,
                       p->transpose_b ? dnnl_ba : dnnl_ab));
    NEXT(cpu_md_create_strided(&o->mds[2], 2, (dnnl_dims_t){m, n}, dnnl_f32,
                               (dnnl_dims_t){(dnnl_dim_t)p->ldc, 1}));
    NEXT(dnnl_post_ops_create(&o->post));
    if (begins(p))
        NEXT(cpu_post_add_output(o->post));
    NEXT(dnnl_primitive_attr_create(&o->attributes));
    NEXT(dnnl_primitive_attr_set_post_ops(o->attributes, o->post));
    NEXT(cpu_matmul_pd(&o->pd, engine, o->mds[0], o->mds[1], o->mds[2], o->attributes));
    NEXT(dnnl_primitive_create(&o->primitive, o->pd));
    NEXT(dnnl_stream_create(&o->stream, engine, dnnl_stream_default_flags));
    for (int i = 0; i < 3; i++) {
        o->arguments[i].arg = names[i];
        NEXT(dnnl_memory_create(&o->arguments[i].memory, o->mds[i], engine, handles[i]));
    }
    NEXT(dnnl_primitive_execute(o->primitive, o->stream, 3, o->arguments));
    return dnnl_stream_wait(o->stream);
}

/* Rows of a tile: few tiles, as each packs b again, but enough for several cores. */
static size_t tile_height(size_t m) {
    enum { TILES = 8, LEAST = 256 };
    size_t height = (m / TILES + 15) / 16 * 16;
    return height < LEAST ? LEAST : height;
}

/* In tiles that depend on the shape alone, each computed by oneDNN on one thread. */
static enum dml_status by_onednn(const struct cpu_product *p, struct cpu_engine *engine,
                                 uint16_t *a, uint16_t *b) {
    size_t height = tile_height(p->m);
    dnnl_status_t failure = dnnl_success;
    begin(p);
    cpu_narrow_matrix(p->a.values, p->transpose_a ? p->k : p->m, p->transpose_a ? p->m : p->k,
                      p->a.ld, p->transpose_a, a);
    cpu_narrow_matrix(p->b.values, p->transpose_b ? p->n : p->k, p->transpose_b ? p->k : p->n,
                      p->b.ld, false, b);
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t top = 0; top < p->m; top += height) {
        size_t rows = p->m - top < height ? p->m - top : height;
        struct objects objects = {0};
        dnnl_status_t status = multiply(&objects, engine->engine, p, rows, a + top * p->k, b,
                                        (float *)p->c + top * p->ldc);
        destroy(&objects);
        if (status != dnnl_success) {
#pragma omp atomic write
            failure = status;
        }
    }
    return check(failure, "product of bfloat16");
}

enum dml_status cpu_product_run(const struct cpu_product *p, struct cpu_rounding rounding,
                                void *scratch) {
    if (rounding.pairs) {
        const struct cpu_pair_product product = {
            p->transpose_a, p->transpose_b,
            p->m,           p->n,
            p->k,           p->a,
            p->b,           {p->start.row, p->start.matrix, p->start.ld, p->c, p->element, p->ldc}};
        rounding.pairs->product(&product, scratch);
        return DML_OK;
    }
    if (rounding.engine) {
        char *b = (char *)scratch + cpu_aligned_bytes(p->m * p->k * sizeof(uint16_t));
        return by_onednn(p, rounding.engine, scratch, (uint16_t *)b);
    }
    dml_product(p->transpose_a, p->transpose_b, p->m, p->n, p->k, p->a.values, p->a.ld, p->b.values,
                p->b.ld, &p->start, p->c, p->ldc, scratch);
    return DML_OK;
}
