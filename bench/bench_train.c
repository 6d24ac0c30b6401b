#include "backends/cpu/convolution.h"
#include "backends/network.h"
#include "bench.h"
#include "conv_bound.h"
#include "product_bound.h"
#include "whole_step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* usage: bench_train [case...]; without one, all but memory_4096 (20 minutes), each in a process of
 * its own so that its peak memory is its own. */

/* A network with random images and gradients, or with what is around it in whole steps. */
struct job {
    struct dml_graph *graph;
    struct dml_network *network;
    struct dml_images images;
    uint8_t *pixels;
    float *embeddings, *grad;
    struct dml_params *params;
    struct dml_span span; /* all parameters */
    struct dml_update update;
    struct dml_optimiser_step step;
    struct whole_step *whole; /* NULL: the network alone */
};

/* What a case computes. */
struct what {
    const char *arch;
    int size;
    size_t batch, micro;
    enum dml_precision precision;
    bool recompute;
};

/* An optimiser with its defaults, on all parameters of the job's network. */
static void open_optimiser(struct job *job, const char *name) {
    const struct dml_method *method = dml_method_find(DML_OPTIMISER, name);
    bench_ok(dml_params_new(&job->params));
    bench_ok(dml_params_add(job->params, method->params));
    job->span = (struct dml_span){0, job->graph->param_count, 0};
    job->update = (struct dml_update){.lr = 1e-5, .decay = 4e-4, .momentum = NAN};
    job->step = (struct dml_optimiser_step){(const struct dml_optimiser *)method,
                                            dml_params_options(job->params, method->params),
                                            {&job->span, 1},
                                            &job->update};
}

static void open_job(struct job *job, const struct what *what) {
    size_t batch = what->batch;
    *job = (struct job){0};
    bench_ok(dml_graph_build(what->arch, 128, what->size, &job->graph));
    struct dml_network_options options = {.precision = what->precision,
                                          .micro_batch = what->micro,
                                          .batch_hint = batch,
                                          .recompute = what->recompute};
    bench_ok(dml_network_open(&dml_backend_cpu, job->graph, &options, &job->network));
    open_optimiser(job, "adam");
    for (int p = 0; p < job->graph->param_count; p++) {
        float *values = malloc(job->graph->params[p].count * sizeof *values);
        dml_graph_init_param(job->graph, p, 1, values);
        bench_ok(dml_network_write(job->network, p, DML_SLOT_VALUE, values));
        free(values);
    }
    const struct dml_node *input = &job->graph->nodes[0];
    size_t bytes = batch * 3 * (size_t)input->height * (size_t)input->width;
    job->pixels = malloc(bytes);
    job->embeddings = calloc(batch * 128, sizeof *job->embeddings);
    job->grad = malloc(batch * 128 * sizeof *job->grad);
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < bytes; i++)
        job->pixels[i] = (uint8_t)dml_rng_bits(&rng);
    for (size_t i = 0; i < batch * 128; i++)
        job->grad[i] = (float)(dml_rng_normal(&rng) * 1e-3);
    job->images = (struct dml_images){
        .n = batch, .height = input->height, .width = input->width, .pixels = job->pixels};
}

enum { WHOLE_BATCH = 112, FOLDER_BATCHES = 2 };

static void close_job(struct job *job) {
    whole_step_close(job->whole);
    dml_params_free(job->params);
    dml_network_close(job->network);
    free(job->pixels);
    free(job->embeddings);
    free(job->grad);
}

/* Forward, backward, gradient statistics for the log, Adam. */
static void step(struct job *job) {
    const struct dml_loaded *loaded = NULL;
    struct dml_gradient_size size;
    job->update.step++;
    if (job->whole) {
        loaded = whole_step_take(job->whole);
        job->images.pixels = loaded->pixels;
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

static void embed(struct job *job) {
    bench_ok(dml_network_embed(job->network, &job->images, job->embeddings));
}

/* Files to embeddings from the first image on, for which the network has to wait. */
static void embed_files(struct job *job) {
    whole_step_start(job->whole, FOLDER_BATCHES);
    for (int i = 0; i < FOLDER_BATCHES; i++) {
        const struct dml_loaded *loaded = whole_step_take(job->whole);
        job->images.pixels = loaded->pixels;
        embed(job);
        whole_step_give_back(job->whole, loaded);
    }
}

/* Bare primitives that a network is timed against. */
struct bare {
    const char *name;
    void *primitives;
    void (*run)(void *primitives);
    double flops;
};

static void run_convolutions(void *primitives) {
    conv_bound_run(primitives);
}

static void run_products(void *primitives) {
    product_bound_run(primitives);
}

/* Times the fastest call, which goes over `worked` images, against the fastest run of all bare
 * primitives, for `images`, in turn, so that whatever else the machine does affects both. */
static void measure(const char *name, struct job *job, void (*work)(struct job *), double worked,
                    double images, int rounds, const struct bare *bare) {
    struct bench_times best = {INFINITY, INFINITY}, bound = best;
    work(job);
    bare->run(bare->primitives);
    for (int r = 0; r < rounds; r++) {
        struct bench_times start = bench_times_now();
        work(job);
        best = bench_times_best(best, start);
        start = bench_times_now();
        bare->run(bare->primitives);
        bound = bench_times_best(bound, start);
    }
    char longer[96];
    bench_report("train", name, worked / best.wall, "images/s", images / bound.wall);
    snprintf(longer, sizeof longer, "%s_processor_time", name);
    bench_report("train", longer, worked / best.processor, "images/s", images / bound.processor);
    snprintf(longer, sizeof longer, "%s_%s", name, bare->name);
    bench_report("train", longer, bare->flops / bound.wall / 1e9, "GFLOP/s", 0);
}

/* A network against its bare convolutions. */
static void race(const char *name, const struct what *what, bool training, int rounds, bool files) {
    struct job job;
    open_job(&job, what);
    if (files)
        job.whole = whole_step_open(what->batch, what->size, 128, 2, NULL, training,
                                    (struct dml_memory_source){0});
    struct conv_bound *bound = conv_bound_create(job.graph, (int)what->batch, training,
                                                 what->precision == DML_PRECISION_BF16);
    void (*work)(struct job *) = training ? step : files ? embed_files : embed;
    double images = (double)what->batch;
    measure(name, &job, work, work == embed_files ? FOLDER_BATCHES * images : images, images,
            rounds,
            &(struct bare){"convolutions", bound, run_convolutions, conv_bound_flops(bound)});
    conv_bound_free(bound);
    close_job(&job);
}

/* A transformer against its bare matrix products. */
static void race_products(const char *name, const struct what *what, bool training, int rounds) {
    struct job job;
    open_job(&job, what);
    struct product_bound *bound = product_bound_create(job.graph, what->batch, training,
                                                       what->precision == DML_PRECISION_BF16);
    double images = (double)what->batch;
    measure(name, &job, training ? step : embed, images, images, rounds,
            &(struct bare){"products", bound, run_products, product_bound_flops(bound)});
    product_bound_free(bound);
    close_job(&job);
}

static void race_transformer(const char *name, const struct what *what, bool training) {
    if (what->precision == DML_PRECISION_BF16 && cpu_engine_bf16() == CPU_BF16_NONE)
        fprintf(stderr, "bench_train: %s: bfloat16 is not fast here (`dml devices`)\n", name);
    else
        race_products(name, what, training, training ? 2 : 4);
}

/* Seconds of the fastest step of an optimiser over the parameters of a ViT-S. */
static double optimiser_pass(struct job *job, const char *name) {
    double best = INFINITY;
    dml_params_free(job->params);
    open_optimiser(job, name);
    for (int r = 0; r < 12; r++) {
        job->update.step++;
        double start = bench_times_now().wall;
        bench_ok(dml_network_step(job->network, &job->step));
        best = fmin(best, bench_times_now().wall - start);
    }
    return best;
}

/* Every optimiser's pass over memory against Adam's, which is timed before and after it; it should
 * take at most 1.3 times as long. */
static void optimisers(const struct what *what) {
    struct job job;
    open_job(&job, what);
    const struct dml_method *method;
    double adam = optimiser_pass(&job, "adam");
    for (size_t i = 0; (method = dml_method_at(DML_OPTIMISER, i)); i++) {
        char name[96];
        if (!strcmp(method->name, "adam"))
            continue;
        double pass = optimiser_pass(&job, method->name);
        adam = fmin(adam, optimiser_pass(&job, "adam"));
        snprintf(name, sizeof name, "vits16_%s_pass", method->name);
        bench_report("train", name, pass * 1e3, "ms", adam * 1e3);
    }
    close_job(&job);
}

/* Peak memory of the process after a step, in GB; the bound is what the project allows. */
static void peak(const char *name, const struct what *what, double allowed) {
    struct job job;
    open_job(&job, what);
    step(&job);
    bench_report("train", name, (double)bench_peak_memory() / 1e9, "GB", allowed);
    close_job(&job);
}

/* The bfloat16 case; where the processor has none, gives the reason instead of a figure. */
static void race_bf16(const struct what *what) {
    if (cpu_engine_bf16() == CPU_BF16_NATIVE)
        race("resnet50_224_frozen_b32_bf16_step", what, true, 3, false);
    else
        fprintf(stderr, "bench_train: bf16: bfloat16 is not fast here (`dml devices`)\n");
}

static void run_case(const char *name) {
    struct what resnet50 = {"resnet50_frozen_normalize", 224, 32, 0, DML_PRECISION_FP32, false};
    struct what large = {resnet50.arch, 224, WHOLE_BATCH, 0, DML_PRECISION_FP32, false};
    struct what demo = {"resnet18_normalize", 64, 112, 0, DML_PRECISION_FP32, false};
    if (!strcmp(name, "step"))
        race("resnet50_224_frozen_b32_step", &resnet50, true, 3, false);
    else if (!strcmp(name, "whole"))
        race("resnet50_224_frozen_b112_whole_step", &large, true, 2, true);
    else if (!strcmp(name, "folder"))
        race("resnet50_224_b112_embed_folder", &large, false, 2, true);
    else if (!strcmp(name, "forward"))
        race("resnet50_224_b32_forward", &resnet50, false, 5, false);
    else if (!strcmp(name, "demo"))
        race("resnet18_64_b112_step", &demo, true, 8, false);
    else if (!strcmp(name, "demo_forward"))
        race("resnet18_64_b112_forward", &demo, false, 8, false);
    else if (!strcmp(name, "demo_frozen")) {
        demo.arch = "resnet18_frozen_normalize";
        race("resnet18_64_frozen_b112_step", &demo, true, 8, false);
    } else if (!strcmp(name, "googlenet")) {
        const struct what what = {"googlenet_frozen_normalize", 227,  32, 0,
                                  DML_PRECISION_FP32,           false};
        race("googlenet_227_frozen_b32_step", &what, true, 3, false);
    } else if (!strcmp(name, "bninception")) {
        const struct what what = {
            "bninception_frozen_normalize", 224, 32, 0, DML_PRECISION_FP32, false};
        race("bninception_224_frozen_b32_step", &what, true, 3, false);
    } else if (!strcmp(name, "bf16")) {
        resnet50.precision = DML_PRECISION_BF16;
        race_bf16(&resnet50);
    } else if (!strcmp(name, "memory")) {
        peak("resnet50_224_b112_peak_memory", &large, 6.0);
    } else if (!strcmp(name, "memory_micro")) {
        large.micro = 16;
        peak("resnet50_224_b112_micro16_peak_memory", &large, 1.5);
    } else if (!strcmp(name, "memory_4096")) {
        large.batch = 4096;
        large.micro = 16;
        peak("resnet50_224_b4096_micro16_peak_memory", &large, 0);
    } else if (!strcmp(name, "memory_bf16")) {
        /* What emulation widens takes memory too: an upper bound. */
        if (cpu_engine_bf16() == CPU_BF16_NONE)
            setenv("DML_BF16", "emulate", 1);
        large.precision = DML_PRECISION_BF16;
        peak(cpu_engine_bf16() == CPU_BF16_NATIVE ? "resnet50_224_b112_bf16_peak_memory"
                                                  : "resnet50_224_b112_bf16_emulated_peak_memory",
             &large, 3.5);
    } else if (!strcmp(name, "vit") || !strcmp(name, "vit_forward")) {
        const struct what vit = {"vits16_normalize", 224, 32, 0, DML_PRECISION_FP32, false};
        bool training = strcmp(name, "vit") == 0;
        race_transformer(training ? "vits16_224_b32_step" : "vits16_224_b32_forward", &vit,
                         training);
    } else if (!strcmp(name, "vit_bf16") || !strcmp(name, "vit_bf16_forward")) {
        const struct what vit = {"vits16_normalize", 224, 32, 0, DML_PRECISION_BF16, false};
        bool training = strcmp(name, "vit_bf16") == 0;
        race_transformer(training ? "vits16_224_b32_bf16_step" : "vits16_224_b32_bf16_forward",
                         &vit, training);
    } else if (!strcmp(name, "vit_recompute")) {
        const struct what vit = {"vits16_normalize", 224, 32, 0, DML_PRECISION_FP32, true};
        race_transformer("vits16_224_b32_recompute_step", &vit, true);
    } else if (!strcmp(name, "optimisers")) {
        const struct what vit = {"vits16_normalize", 32, 2, 0, DML_PRECISION_FP32, false};
        optimisers(&vit);
    } else if (!strcmp(name, "vit_memory") || !strcmp(name, "vit_memory_recompute")) {
        struct what vit = {"vits16_normalize", 224, WHOLE_BATCH, 0, DML_PRECISION_FP32, false};
        vit.recompute = strcmp(name, "vit_memory") != 0;
        peak(vit.recompute ? "vits16_224_b112_recompute_peak_memory"
                           : "vits16_224_b112_peak_memory",
             &vit, vit.recompute ? 3.0 : 0);
    } else {
        fprintf(stderr, "bench_train: unknown case '%s'\n", name);
        exit(2);
    }
}

int main(int argc, char **argv) {
    static char *all[] = {"step",
                          "whole",
                          "folder",
                          "forward",
                          "bf16",
                          "demo",
                          "demo_frozen",
                          "demo_forward",
                          "googlenet",
                          "bninception",
                          "memory",
                          "memory_micro",
                          "memory_bf16",
                          "vit_memory_recompute",
                          "vit",
                          "vit_forward",
                          "vit_recompute",
                          "vit_bf16",
                          "vit_bf16_forward",
                          "optimisers"};
    if (argc == 2) {
        run_case(argv[1]);
        return 0;
    }
    char **cases = argc > 1 ? argv + 1 : all;
    int count = argc > 1 ? argc - 1 : (int)(sizeof all / sizeof *all), failed = 0;
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            execl("/proc/self/exe", argv[0], cases[i], (char *)NULL);
            _exit(127);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
            failed = 1;
    }
    return failed;
}
