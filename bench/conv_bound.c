#include "conv_bound.h"

#include "backends/cpu/convolution.h"
#include "backends/cpu/descriptors.h"
#include "base/half.h"
#include "base/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct primitive {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arguments[4];
    int layer; /* which convolution it is of */
    bool backward;
};

struct conv_bound {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct primitive *primitives;
    int count, layers;
    dnnl_data_type_t type;
    double flops;
    void *memory[3]; /* source, target and weights of any convolution */
    size_t bytes[3];
};

static void check(dnnl_status_t status, const char *what) {
    if (status == dnnl_success)
        return;
    fprintf(stderr, "bench: oneDNN: %s: status %d\n", what, (int)status);
    exit(1);
}

/* Keeps one of forward, backward data and backward weights, with its memory objects empty. */
static void add(struct conv_bound *bound, const_dnnl_primitive_desc_t pd, const int arguments[3]) {
    struct primitive *p = &bound->primitives[bound->count++];
    *p = (struct primitive){.layer = bound->layers,
                            .backward =
                                arguments[0] != DNNL_ARG_SRC || arguments[2] != DNNL_ARG_WEIGHTS};
    check(dnnl_primitive_create(&p->primitive, pd), "convolution");
    for (int i = 0; i < 3; i++) {
        cpu_const_md md = dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, arguments[i]);
        size_t bytes = dnnl_memory_desc_get_size(md);
        bound->bytes[i] = bytes > bound->bytes[i] ? bytes : bound->bytes[i];
        p->arguments[i].arg = arguments[i];
        check(dnnl_memory_create(&p->arguments[i].memory, md, bound->engine, DNNL_MEMORY_NONE),
              "memory");
    }
}

static cpu_md any_layout(const dnnl_dims_t dims, dnnl_data_type_t type) {
    cpu_md md;
    check(cpu_md_create(&md, 4, dims, type, dnnl_format_tag_any), "any");
    return md;
}

static void add_conv(struct conv_bound *bound, const struct dml_graph *graph,
                     const struct dml_node *node, int batch, bool backward) {
    const struct dml_node *input = &graph->nodes[node->inputs[0]];
    dnnl_dims_t source_dims = {batch, input->channels, input->height, input->width};
    dnnl_dims_t target_dims = {batch, node->channels, node->height, node->width};
    dnnl_dims_t weight_dims = {node->channels, input->channels, node->kernel_h, node->kernel_w};
    cpu_md s = any_layout(source_dims, bound->type), w = any_layout(weight_dims, bound->type),
           t = any_layout(target_dims, bound->type), gradient = any_layout(weight_dims, dnnl_f32);
    struct cpu_conv_description d = {
        .source = s,
        .weights = w,
        .target = t,
        .strides = {node->stride_h, node->stride_w},
        .pad_left = {node->pad_h, node->pad_w},
        .pad_right = {
            (node->height - 1) * node->stride_h + node->kernel_h - input->height - node->pad_h,
            (node->width - 1) * node->stride_w + node->kernel_w - input->width - node->pad_w}};
    dnnl_primitive_desc_t forward, pd;
    check(cpu_conv_forward_pd(&forward, bound->engine, true, &d, NULL), "forward");
    add(bound, forward, (int[]){DNNL_ARG_SRC, DNNL_ARG_DST, DNNL_ARG_WEIGHTS});
    bool first = input->op == DML_OP_INPUT || input->op == DML_OP_AFFINE;
    if (backward && !first) {
        check(cpu_conv_data_pd(&pd, bound->engine, &d, forward, NULL), "backward data");
        add(bound, pd, (int[]){DNNL_ARG_DIFF_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS});
        dnnl_primitive_desc_destroy(pd);
    }
    if (backward) {
        d.weights = gradient;
        check(cpu_conv_weights_pd(&pd, bound->engine, &d, forward, NULL), "backward weights");
        add(bound, pd, (int[]){DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS});
        dnnl_primitive_desc_destroy(pd);
    }
    bound->flops += 2.0 * batch * input->channels * node->kernel_h * node->kernel_w *
                    node->channels * node->height * node->width *
                    (!backward ? 1
                     : first   ? 2
                               : 3);
    bound->layers++;
    dnnl_primitive_desc_destroy(forward);
    cpu_md_destroy(s);
    cpu_md_destroy(w);
    cpu_md_destroy(t);
    cpu_md_destroy(gradient);
}

/* Ordinary numbers: zeros or denormals could be faster or slower. */
static void fill(struct conv_bound *bound, int k) {
    bound->memory[k] = aligned_alloc(64, (bound->bytes[k] + 63) / 64 * 64);
    for (size_t i = 0; i < bound->bytes[k] / sizeof(float); i++) {
        float value = (float)(i % 31) * 0.01f - 0.15f;
        if (bound->type == dnnl_bf16) {
            uint16_t pair[2] = {dml_bfloat16_bits(value), dml_bfloat16_bits(0.05f - value)};
            memcpy((char *)bound->memory[k] + i * sizeof pair, pair, sizeof pair);
        } else {
            memcpy((char *)bound->memory[k] + i * sizeof value, &value, sizeof value);
        }
    }
}

struct conv_bound *conv_bound_create(const struct dml_graph *graph, int batch, bool backward,
                                     bool bf16) {
    if (bf16 && cpu_engine_bf16() != CPU_BF16_NATIVE)
        return NULL;
    struct conv_bound *bound = calloc(1, sizeof *bound);
    bound->type = bf16 ? dnnl_bf16 : dnnl_f32;
    bound->primitives = calloc((size_t)graph->node_count * 3, sizeof *bound->primitives);
    check(dnnl_engine_create(&bound->engine, dnnl_cpu, 0), "engine");
    check(dnnl_stream_create(&bound->stream, bound->engine, dnnl_stream_default_flags), "stream");
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i].op == DML_OP_CONV)
            add_conv(bound, graph, &graph->nodes[i], batch, backward);
    for (int k = 0; k < 3; k++)
        fill(bound, k);
    for (int p = 0; p < bound->count; p++)
        for (int k = 0; k < 3; k++)
            check(dnnl_memory_set_data_handle(bound->primitives[p].arguments[k].memory,
                                              bound->memory[k]),
                  "memory");
    return bound;
}

void conv_bound_free(struct conv_bound *bound) {
    for (int p = 0; p < bound->count; p++) {
        for (int k = 0; k < 3; k++)
            dnnl_memory_destroy(bound->primitives[p].arguments[k].memory);
        dnnl_primitive_destroy(bound->primitives[p].primitive);
    }
    dnnl_stream_destroy(bound->stream);
    dnnl_engine_destroy(bound->engine);
    for (int k = 0; k < 3; k++)
        free(bound->memory[k]);
    free(bound->primitives);
    free(bound);
}

struct bench_times bench_times_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (struct bench_times){dml_now(), (double)t.tv_sec + 1e-9 * (double)t.tv_nsec};
}

struct bench_times bench_times_best(struct bench_times best, struct bench_times start) {
    struct bench_times now = bench_times_now();
    return (struct bench_times){fmin(best.wall, now.wall - start.wall),
                                fmin(best.processor, now.processor - start.processor)};
}

static void execute(const struct conv_bound *bound, const struct primitive *primitive) {
    check(dnnl_primitive_execute(primitive->primitive, bound->stream, 3, primitive->arguments),
          "execution");
    check(dnnl_stream_wait(bound->stream), "execution");
}

void conv_bound_run(struct conv_bound *bound) {
    for (int p = 0; p < bound->count; p++)
        execute(bound, &bound->primitives[p]);
}

void conv_bound_layers(struct conv_bound *bound, double *seconds) {
    double now[bound->layers];
    for (int l = 0; l < bound->layers; l++)
        now[l] = 0;
    for (int p = 0; p < bound->count; p++) {
        const struct primitive *primitive = &bound->primitives[p];
        double started = dml_now();
        execute(bound, primitive);
        now[primitive->layer] += primitive->backward ? dml_now() - started : 0;
    }
    for (int l = 0; l < bound->layers; l++)
        seconds[l] = seconds[l] > 0 ? fmin(seconds[l], now[l]) : now[l];
}

double conv_bound_flops(const struct conv_bound *bound) {
    return bound->flops;
}
