#include "backends/cuda/cuda.h"
#include "backends/network.h"
#include "bench.h"
#include "card_bound.h"
#include "dml/rng.h"
#include "whole_step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* usage: bench_gpu [BATCH PIXELS EDGE ARCH...]. Networks on the first GPU, by default those of
 * `archs` with batches of 112 images of 224 pixels, in tf32 and bf16: images per second of training
 * steps, of whole ones (JPEG files from the loader's cache, distance mining, margin loss) and of
 * inference, each time with the next batch copied to the card beside it. The bound is what the card
 * could do if each layer took no longer than its products take at the rate of bare products of EDGE
 * x EDGE, and its bytes at that of bare copies, both measured here. Says so where there is no GPU,
 * and exits with status 0. */

static const char *const archs[] = {"resnet50_frozen_normalize", "resnet50_normalize",
                                    "vits16_normalize"};
static size_t batch = 112, edge = 8192;
static int pixels_a_side = 224;
enum { DIM = 128 };

struct job {
    struct dml_network *network;
    struct dml_params *params;
    struct dml_memory_source memory;
    struct dml_images images;
    uint8_t *pixels; /* of `memory` */
    float *embeddings, *grad;
    struct dml_span span;
    struct dml_update update;
    struct dml_optimiser_step step;
    struct whole_step *whole; /* NULL: the network alone */
};

/* Where the next batch is, if it is there (else NULL). */
static void announce(struct job *job, const uint8_t *pixels) {
    struct dml_images next = job->images;
    next.pixels = pixels;
    if (pixels)
        dml_network_announce(job->network, &next);
}

static void step(void *data) {
    struct job *job = data;
    const struct dml_loaded *loaded = NULL;
    struct dml_gradient_size size;
    job->update.step++;
    if (job->whole) {
        const struct dml_loaded *next;
        loaded = whole_step_take(job->whole);
        job->images.pixels = loaded->pixels;
        next = whole_step_peek(job->whole);
        announce(job, next ? next->pixels : NULL);
    } else {
        announce(job, job->pixels);
    }
    bench_ok(dml_network_forward(job->network, &job->images, job->embeddings));
    if (job->whole)
        whole_step_learn(job->whole, loaded, job->embeddings, job->grad);
    bench_ok(dml_network_backward(job->network, job->grad));
    bench_ok(dml_network_gradient_size(job->network, NULL, &size));
    bench_ok(dml_network_step(job->network, &job->step));
    if (job->whole)
        whole_step_give_back(job->whole, loaded);
}

static void embed(void *data) {
    struct job *job = data;
    announce(job, job->pixels);
    bench_ok(dml_network_embed(job->network, &job->images, job->embeddings));
}

static void open_job(struct job *job, const char *arch, enum dml_precision precision) {
    struct dml_graph *graph;
    *job = (struct job){.update = {.lr = 1e-5, .decay = 4e-4, .momentum = NAN}};
    bench_ok(dml_graph_build(arch, DIM, pixels_a_side, &graph));
    const struct dml_network_options options = {
        .precision = precision, .batch_hint = batch, .states = 2};
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
    size_t bytes = batch * 3 * (size_t)pixels_a_side * (size_t)pixels_a_side;
    job->memory = dml_network_image_memory(job->network);
    job->pixels = job->memory.alloc(job->memory.data, bytes);
    if (!job->pixels) {
        fprintf(stderr, "bench_gpu: no memory for a batch that the card copies\n");
        exit(1);
    }
    job->embeddings = calloc(batch * DIM, sizeof *job->embeddings);
    job->grad = malloc(batch * DIM * sizeof *job->grad);
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < bytes; i++)
        job->pixels[i] = (uint8_t)dml_rng_bits(&rng);
    for (size_t i = 0; i < batch * DIM; i++)
        job->grad[i] = (float)(dml_rng_normal(&rng) * 1e-3);
    job->images = (struct dml_images){
        .n = batch, .height = pixels_a_side, .width = pixels_a_side, .pixels = job->pixels};
}

static void close_job(struct job *job) {
    whole_step_close(job->whole);
    job->memory.release(job->memory.data, job->pixels);
    free(job->embeddings);
    free(job->grad);
    dml_params_free(job->params);
    dml_network_close(job->network);
}

/* Bare products and copies on the card. */
struct bare {
    const struct cuda_api *api;
    struct cuda_device *device;
    struct cuda_gemm gemm;
    size_t bytes;
};
enum { TIMES = 10 };

static void multiply(void *data) {
    const struct bare *b = data;
    for (int i = 0; i < TIMES; i++)
        b->api->gemm(b->device, &b->gemm);
    b->api->finish(b->device);
}

static void copy(void *data) {
    const struct bare *b = data;
    for (int i = 0; i < TIMES; i++)
        b->api->copy(b->device, b->gemm.c, b->gemm.a, b->bytes);
    b->api->finish(b->device);
}

/* Operations and bytes per second of the card in this arithmetic. */
struct peak {
    double flops, bytes;
};

static struct peak measure_peak(enum cuda_math math, const char *name) {
    char reason[CUDA_REASON] = "", title[64];
    struct bare b = {.api = dml_cuda_find(reason), .bytes = edge * edge * sizeof(float)};
    struct peak peak = {0, 0};
    if (!b.api || !(b.device = b.api->open(0, math, reason))) {
        fprintf(stderr, "bench_gpu: %s\n", reason);
        exit(1);
    }
    float *memory[3];
    for (int i = 0; i < 3; i++) {
        memory[i] = b.api->alloc(b.device, b.bytes);
        if (!memory[i]) {
            fprintf(stderr, "bench_gpu: no memory for %zu bytes\n", b.bytes);
            exit(1);
        }
        b.api->zero(b.device, memory[i], b.bytes);
    }
    b.gemm = (struct cuda_gemm){.narrow = math == CUDA_BF16,
                                .m = edge,
                                .n = edge,
                                .k = edge,
                                .batch = 1,
                                .a = memory[0],
                                .lda = edge,
                                .b = memory[1],
                                .ldb = edge,
                                .c = memory[2],
                                .ldc = edge};
    double size = (double)edge;
    peak.flops = TIMES * 2 * size * size * size / bench_time(multiply, &b, 5, 0.5);
    peak.bytes = TIMES * 2 * (double)b.bytes / bench_time(copy, &b, 5, 0.5);
    snprintf(title, sizeof title, "%s_products", name);
    bench_report("gpu", title, peak.flops / 1e12, "TFLOP/s", 0);
    snprintf(title, sizeof title, "%s_copies", name);
    bench_report("gpu", title, peak.bytes / 1e9, "GB/s", 0);
    for (int i = 0; i < 3; i++)
        b.api->release(b.device, memory[i]);
    b.api->close(b.device);
    return peak;
}

/* Images per second; what they need at least, by the same time. */
static void report(const char *name, const char *what, double seconds,
                   const struct card_bound *bound, const struct peak *peak) {
    char title[128];
    double images = (double)batch;
    snprintf(title, sizeof title, "%s_%s", name, what);
    bench_report("gpu", title, images / seconds, "images/s", 1 / bound->seconds);
    snprintf(title, sizeof title, "%s_%s_flops", name, what);
    bench_report("gpu", title, images * bound->flops / seconds / 1e12, "TFLOP/s",
                 peak->flops / 1e12);
    snprintf(title, sizeof title, "%s_%s_bytes", name, what);
    bench_report("gpu", title, images * bound->bytes / seconds / 1e9, "GB/s", peak->bytes / 1e9);
}

static void race(const char *arch, enum dml_precision precision, const char *kind,
                 const struct peak *peak) {
    struct job job;
    char name[96], title[128];
    open_job(&job, arch, precision);
    const struct dml_graph *graph = job.network->graph;
    double element = precision == DML_PRECISION_BF16 ? 2 : 4, images = (double)batch;
    const struct card_bound of_step =
        card_bound_of(graph, true, element, images, peak->flops, peak->bytes);
    const struct card_bound of_embed =
        card_bound_of(graph, false, element, images, peak->flops, peak->bytes);
    snprintf(name, sizeof name, "%s_%s_b%zu", arch, kind, batch);
    double alone = bench_time(step, &job, 5, 2);
    report(name, "step", alone, &of_step, peak);
    report(name, "embed", bench_time(embed, &job, 5, 1), &of_embed, peak);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    job.whole = whole_step_open(batch, pixels_a_side, DIM, cores > 2 ? (int)cores - 1 : 2, "memory",
                                true, job.memory);
    snprintf(title, sizeof title, "%s_whole_step", name);
    bench_report("gpu", title, images / bench_time(step, &job, 5, 2), "images/s", images / alone);
    close_job(&job);
}

int main(int argc, char **argv) {
    static const struct {
        enum dml_precision precision;
        enum cuda_math math;
        const char *name;
    } kinds[] = {{DML_PRECISION_TF32, CUDA_TF32, "tf32"}, {DML_PRECISION_BF16, CUDA_BF16, "bf16"}};
    const struct dml_backend_abilities can = dml_backend_cuda.abilities();
    const char *const *names = argc > 4 ? (const char *const *)(argv + 4) : archs;
    int count = argc > 4 ? argc - 4 : (int)(sizeof archs / sizeof *archs);
    if (argc > 3) {
        batch = (size_t)atol(argv[1]);
        pixels_a_side = atoi(argv[2]);
        edge = (size_t)atol(argv[3]);
    }
    if (!can.devices) {
        fprintf(stderr, "bench_gpu: left out: %s\n",
                can.built ? can.reason : "this build has no GPU backend");
        return 0;
    }
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const struct peak peak = measure_peak(kinds[k].math, kinds[k].name);
        for (int a = 0; a < count; a++)
            race(names[a], kinds[k].precision, kinds[k].name, &peak);
    }
    return 0;
}
