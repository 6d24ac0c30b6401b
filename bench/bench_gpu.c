#include "backends/cuda/cuda.h"
#include "backends/network.h"
#include "bench.h"
#include "dml/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* usage: bench_gpu. Networks on the first GPU: images per second of training steps and of
 * inference, in tf32 and bf16, against bare products on the card in the same arithmetic. Says so
 * where there is no GPU, and exits with status 0. */

struct job {
    struct dml_network *network;
    struct dml_params *params;
    struct dml_images images;
    float *embeddings, *grad;
    struct dml_span span;
    struct dml_update update;
    struct dml_optimiser_step step;
};

enum { BATCH = 112, SIZE = 224, DIM = 128 };

static void step(void *data) {
    struct job *job = data;
    struct dml_gradient_size size;
    job->update.step++;
    bench_ok(dml_network_forward(job->network, &job->images, job->embeddings));
    bench_ok(dml_network_backward(job->network, job->grad));
    bench_ok(dml_network_gradient_size(job->network, NULL, &size));
    bench_ok(dml_network_step(job->network, &job->step));
}

static void embed(void *data) {
    struct job *job = data;
    bench_ok(dml_network_embed(job->network, &job->images, job->embeddings));
}

/* Multiplications and additions in one image's forward pass. */
static double operations(const struct dml_graph *graph) {
    double sum = 0;
    for (int i = 0; i < graph->node_count; i++) {
        const struct dml_node *node = &graph->nodes[i];
        const struct dml_node *input = node->input_count ? &graph->nodes[node->inputs[0]] : node;
        double rows = node->tokens ? node->tokens : (double)node->height * node->width;
        if (node->op == DML_OP_CONV)
            sum += 2.0 * rows * node->channels * input->channels /
                   (node->groups ? node->groups : 1) * node->kernel_h * node->kernel_w;
        else if (node->op == DML_OP_LINEAR)
            sum += 2.0 * rows * node->channels * input->channels;
        else if (node->op == DML_OP_ATTENTION)
            sum += 4.0 * rows * rows * node->channels;
    }
    return sum;
}

static void open_job(struct job *job, const char *arch, enum dml_precision precision) {
    struct dml_graph *graph;
    *job = (struct job){.update = {.lr = 1e-5, .decay = 4e-4, .momentum = NAN}};
    bench_ok(dml_graph_build(arch, DIM, SIZE, &graph));
    const struct dml_network_options options = {.precision = precision, .batch_hint = BATCH};
    bench_ok(dml_network_open(&dml_backend_cuda, graph, &options, &job->network));
    bench_ok(dml_network_initialise(job->network, 1));
    const struct dml_method *adam = dml_method_find(DML_OPTIMISER, "adam");
    bench_ok(dml_params_new(&job->params));
    bench_ok(dml_params_add(job->params, adam->params));
    job->span = (struct dml_span){0, graph->param_count, 0};
    job->step = (struct dml_optimiser_step){(const struct dml_optimiser *)adam,
                                            dml_params_options(job->params, adam->params),
                                            {&job->span, 1},
                                            &job->update};
    size_t bytes = (size_t)BATCH * 3 * SIZE * SIZE;
    uint8_t *pixels = malloc(bytes);
    job->embeddings = calloc(BATCH * DIM, sizeof *job->embeddings);
    job->grad = malloc(BATCH * DIM * sizeof *job->grad);
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < bytes; i++)
        pixels[i] = (uint8_t)dml_rng_bits(&rng);
    for (size_t i = 0; i < BATCH * DIM; i++)
        job->grad[i] = (float)(dml_rng_normal(&rng) * 1e-3);
    job->images = (struct dml_images){.n = BATCH, .height = SIZE, .width = SIZE, .pixels = pixels};
}

static void close_job(struct job *job) {
    free((uint8_t *)(size_t)job->images.pixels);
    free(job->embeddings);
    free(job->grad);
    dml_params_free(job->params);
    dml_network_close(job->network);
}

/* Bare products on the card. */
struct products {
    const struct cuda_api *api;
    struct cuda_device *device;
    struct cuda_gemm gemm;
};
enum { PRODUCTS = 10, EDGE = 8192 };

static void multiply(void *data) {
    const struct products *p = data;
    for (int i = 0; i < PRODUCTS; i++)
        p->api->gemm(p->device, &p->gemm);
    p->api->finish(p->device);
}

static void copy(void *data) {
    const struct products *p = data;
    for (int i = 0; i < PRODUCTS; i++)
        p->api->copy(p->device, p->gemm.c, p->gemm.a, (size_t)EDGE * EDGE * sizeof(float));
    p->api->finish(p->device);
}

/* Operations per second of the card in this arithmetic; 0 if they cannot be measured. Reports them,
 * and its memory's bandwidth. */
static double measure_peak(enum cuda_math math, const char *name) {
    char reason[CUDA_REASON] = "", title[64];
    struct products p = {.api = dml_cuda_find(reason)};
    size_t bytes = (size_t)EDGE * EDGE * sizeof(float);
    double peak = 0;
    if (!p.api || !(p.device = p.api->open(0, math, reason)))
        return 0;
    float *a = p.api->alloc(p.device, bytes), *b = p.api->alloc(p.device, bytes),
          *c = p.api->alloc(p.device, bytes);
    if (a && b && c) {
        p.api->zero(p.device, a, bytes);
        p.api->zero(p.device, b, bytes);
        p.gemm = (struct cuda_gemm){.narrow = math == CUDA_BF16,
                                    .m = EDGE,
                                    .n = EDGE,
                                    .k = EDGE,
                                    .batch = 1,
                                    .a = a,
                                    .lda = EDGE,
                                    .b = b,
                                    .ldb = EDGE,
                                    .c = c,
                                    .ldc = EDGE};
        peak = PRODUCTS * 2.0 * EDGE * EDGE * EDGE / bench_time(multiply, &p, 5, 1);
        snprintf(title, sizeof title, "%s_products", name);
        bench_report("gpu", title, peak / 1e12, "TFLOP/s", 0);
        snprintf(title, sizeof title, "%s_copies", name);
        bench_report("gpu", title,
                     PRODUCTS * 2.0 * (double)bytes / bench_time(copy, &p, 5, 1) / 1e9, "GB/s", 0);
    }
    p.api->release(p.device, a);
    p.api->release(p.device, b);
    p.api->release(p.device, c);
    p.api->close(p.device);
    return peak;
}

/* Images per second, against what the card could do if it computed nothing but products. */
static void race(const char *arch, enum dml_precision precision, const char *name, double peak) {
    struct job job;
    char title[96];
    open_job(&job, arch, precision);
    double work = operations(job.network->graph);
    snprintf(title, sizeof title, "%s_%s_b%d_step", arch, name, BATCH);
    bench_report("gpu", title, BATCH / bench_time(step, &job, 10, 3), "images/s",
                 peak / (3 * work));
    snprintf(title, sizeof title, "%s_%s_b%d_embed", arch, name, BATCH);
    bench_report("gpu", title, BATCH / bench_time(embed, &job, 10, 2), "images/s", peak / work);
    close_job(&job);
}

int main(void) {
    static const struct {
        enum dml_precision precision;
        enum cuda_math math;
        const char *name;
    } kinds[] = {{DML_PRECISION_TF32, CUDA_TF32, "tf32"}, {DML_PRECISION_BF16, CUDA_BF16, "bf16"}};
    static const char *const archs[] = {"resnet50_frozen_normalize", "resnet50_normalize",
                                        "vits16_normalize"};
    const struct dml_backend_abilities can = dml_backend_cuda.abilities();
    if (!can.devices) {
        fprintf(stderr, "bench_gpu: left out: %s\n",
                can.built ? can.reason : "this build has no GPU backend");
        return 0;
    }
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        double peak = measure_peak(kinds[k].math, kinds[k].name);
        for (size_t a = 0; a < sizeof archs / sizeof *archs; a++)
            race(archs[a], kinds[k].precision, kinds[k].name, peak);
    }
    return 0;
}
