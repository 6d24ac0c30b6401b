/* A criterion with its miner: mining, forward and backward of one batch of 128 dimensions, two
 * samples of each class, against the time of the PyTorch implementation of the ICML 2020 study on
 * two threads. The bound is that time over the speed-up that we want.
 *
 *   bench_criteria              all of them, at both sizes of the study
 *   bench_criteria margin npair  only those
 *   bench_criteria 112 margin    at that batch size only
 *   bench_criteria million       criteria with class weights at batch 512 and 1,000,000 classes,
 *                                against their three products; peak memory against 3 copies of
 *                                the weights */
#include "bench.h"

#include "dml/dml.h"
#include "math/linear.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DIM = 128, SIZES = 2, SAMPLES_PER_CLASS = 2 };

static const struct { size_t n, classes; } sizes[SIZES] = {{112, 100}, {512, 11318}};

static const struct row {
    const char *criterion, *miner;
    double pytorch[SIZES]; /* milliseconds; 0: not measured */
    double factor[SIZES];
} rows[] = {
    {"margin", "distance", {35.8, 175}, {30, 30}},
    {"margin", "semihard", {27.3, 140}, {30, 30}},
    {"triplet", "random", {35.9, 428}, {30, 30}},
    {"triplet", "softhard", {24.6, 78}, {30, 30}},
    {"contrastive", "distance", {15.5, 35}, {30, 30}},
    {"contrastive", "rho_distance", {9.2, 31}, {30, 30}},
    {"multisimilarity", NULL, {4.0, 28}, {30, 30}},
    {"lifted", "lifted", {48.7, 449}, {30, 30}},
    {"npair", "npair", {33.9, 353}, {30, 30}},
    {"angular", "npair", {34.0, 873}, {30, 30}},
    {"histogram", NULL, {17.5, 320}, {30, 30}},
    {"proxynca", NULL, {12.9, 29366}, {30, 30}},
    {"softmax", NULL, {0.44, 49}, {3, 2}},
    {"arcface", NULL, {0.86, 73}, {3, 2}},
    {"snr", "distance", {10.8, 35}, {30, 30}},
    {"quadruplet", "distance", {16.9, 152}, {30, 30}},
    {"softtriplet", NULL, {0, 0}, {1, 1}}, /* cannot be constructed in the original */
    /* What the study does not have. */
    {"cosface", NULL, {0, 0}, {1, 1}},
    {"sphereface", NULL, {0, 0}, {1, 1}},
    {"large_margin_softmax", NULL, {0, 0}, {1, 1}},
    {"subcenter_arcface", NULL, {0, 0}, {1, 1}},
    {"p2sgrad", NULL, {0, 0}, {1, 1}},
    {"proxyanchor", NULL, {0, 0}, {1, 1}},
    {"proxynca_pp", NULL, {0, 0}, {1, 1}},
    {"manifold", NULL, {0, 0}, {1, 1}},
    {"instance", NULL, {0, 0}, {1, 1}},
    {"circle", NULL, {0, 0}, {1, 1}},
    {"supcon", NULL, {0, 0}, {1, 1}},
    {"ntxent", NULL, {0, 0}, {1, 1}},
    {"nca", NULL, {0, 0}, {1, 1}},
    {"fastap", NULL, {0, 0}, {1, 1}},
    {"smoothap", NULL, {0, 0}, {1, 1}},
    {"recallk", NULL, {0, 0}, {1, 1}},
    {"roadmap", NULL, {0, 0}, {1, 1}},
    {"pnp", NULL, {0, 0}, {1, 1}},
    {"ranked_list", NULL, {0, 0}, {1, 1}},
    {"lifted_original", NULL, {0, 0}, {1, 1}},
    {"tuplet_margin", NULL, {0, 0}, {1, 1}},
    {"intra_pair_variance", NULL, {0, 0}, {1, 1}},
    {"dynamic_soft_margin", NULL, {0, 0}, {1, 1}},
    {"tcm", NULL, {0, 0}, {1, 1}},
    {"hyp_pce", NULL, {0, 0}, {1, 1}},
    {"vicreg", "npair", {0, 0}, {1, 1}},
};

struct run {
    struct dml_batch batch;
    struct dml_objective *objective;
    struct dml_mining *mining; /* NULL without a miner */
    struct dml_tuples tuples;
    uint64_t step;
    float *grad;
};

static void check(enum dml_status status) {
    if (!status)
        return;
    fprintf(stderr, "bench_criteria: %s\n", dml_error());
    exit(1);
}

static void step(void *data) {
    struct run *run = data;
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_MINER, run->step++, 0);
    struct dml_loss loss;
    if (run->mining)
        check(dml_mining_compute(run->mining, &run->batch, &rng, &run->tuples, NULL));
    check(dml_objective_compute(run->objective, &run->batch, run->mining ? &run->tuples : NULL,
                                &rng, run->grad, &loss));
}

static void fill(float *embeddings, int32_t *labels, size_t n, size_t classes) {
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, n, 0);
    for (size_t i = 0; i < n; i++) {
        double norm = 0;
        for (size_t k = 0; k < DIM; k++) {
            double x = dml_rng_normal(&rng);
            embeddings[i * DIM + k] = (float)x;
            norm += x * x;
        }
        for (size_t k = 0; k < DIM; k++)
            embeddings[i * DIM + k] /= (float)sqrt(norm);
    }
    size_t groups = (n + SAMPLES_PER_CLASS - 1) / SAMPLES_PER_CLASS;
    uint64_t *drawn = malloc(groups * sizeof *drawn);
    if (!drawn)
        exit(1);
    dml_rng_distinct(&rng, classes, groups, drawn);
    for (size_t i = 0; i < n; i++)
        labels[i] = (int32_t)drawn[i / SAMPLES_PER_CLASS];
    free(drawn);
}

static void measure(const struct row *row, size_t size, const float *embeddings,
                    const int32_t *labels, float *grad) {
    struct dml_criterion_context context = {.dim = DIM,
                                            .classes = sizes[size].classes,
                                            .lr = 1e-5,
                                            .miner = row->miner,
                                            .arch = "resnet50_frozen_normalize"};
    struct dml_miner_context mining = {.dim = DIM, .margin = 0.2};
    struct run run = {
        .batch = {.n = sizes[size].n, .dim = DIM, .embeddings = embeddings, .labels = labels},
        .grad = grad};
    check(dml_objective_open(row->criterion, NULL, &context, &run.objective));
    if (row->miner)
        check(dml_mining_open(row->miner, NULL, &mining, &run.mining));
    char name[100];
    snprintf(name, sizeof name, "%s%s%s, batch %zu, %zu classes", row->criterion,
             row->miner ? "+" : "", row->miner ? row->miner : "", sizes[size].n,
             sizes[size].classes);
    double milliseconds = bench_time(step, &run, 20, 0.3) * 1e3;
    bench_report("criteria", name, milliseconds, "ms", row->pytorch[size] / row->factor[size]);
    dml_mining_free(run.mining);
    dml_objective_free(run.objective);
    dml_tuples_free(&run.tuples);
}

struct products {
    size_t n, classes;
    const float *x, *w;
    float *c, *grad;
};

/* A hundredth of what a step cannot do without: cosines, and the gradients of both sides. */
static void multiply(void *data) {
    const struct products *p = data;
    dml_gemm(0, 1, p->n, p->classes, DIM, 1, p->x, DIM, p->w, DIM, 0, p->c, p->classes);
    dml_gemm(0, 0, p->n, DIM, p->classes, 1, p->c, p->classes, p->w, DIM, 0, p->grad, DIM);
    dml_gemm(1, 0, p->classes, DIM, p->n, 1, p->c, p->classes, p->x, DIM, 0, p->grad, DIM);
}

static double products_time(size_t n, size_t classes) {
    struct products p = {.n = n, .classes = classes / 100};
    float *x = calloc(n, DIM * sizeof *x), *w = calloc(p.classes, DIM * sizeof *w);
    p.c = malloc(n * p.classes * sizeof *p.c);
    p.grad = malloc((n + p.classes) * DIM * sizeof *p.grad);
    if (!x || !w || !p.c || !p.grad)
        exit(1);
    p.x = x;
    p.w = w;
    double seconds = 100 * bench_time(multiply, &p, 20, 1);
    free(x);
    free(w);
    free(p.c);
    free(p.grad);
    return seconds;
}

/* In a process of its own, so that the peak of memory is its own. */
static void measure_million(const char *criterion) {
    enum { N = 512, CLASSES = 1000000 };
    static float embeddings[N * DIM], grad[N * DIM];
    static int32_t labels[N];
    fill(embeddings, labels, N, CLASSES);
    struct dml_criterion_context context = {
        .dim = DIM, .classes = CLASSES, .lr = 1e-5, .arch = "resnet50_frozen_normalize"};
    struct run run = {.batch = {.n = N, .dim = DIM, .embeddings = embeddings, .labels = labels},
                      .grad = grad};
    check(dml_objective_open(criterion, NULL, &context, &run.objective));
    double seconds = bench_time(step, &run, 3, 0), memory = (double)bench_peak_memory();
    char name[100];
    snprintf(name, sizeof name, "%s, batch %d, %d classes", criterion, N, CLASSES);
    bench_report("criteria", name, seconds, "s", products_time(N, CLASSES));
    snprintf(name, sizeof name, "%s, %d classes, peak memory", criterion, CLASSES);
    bench_report("criteria", name, memory / 0x1p20, "MiB",
                 3.0 * CLASSES * DIM * sizeof(float) / 0x1p20);
    dml_objective_free(run.objective);
}

static int run_million(void) {
    static const char *const criteria[] = {"softmax", "arcface", "proxyanchor"};
    for (size_t i = 0; i < sizeof criteria / sizeof *criteria; i++) {
        pid_t child = fork();
        if (child == 0) {
            measure_million(criteria[i]);
            exit(0);
        }
        int status = 1;
        if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
            return 1;
    }
    return 0;
}

/* With arguments: only the criteria and batch sizes that are named. */
static bool wanted(const char *criterion, size_t n, int argc, char **argv) {
    bool names = false, named = false, numbers = false, right = false;
    for (int i = 1; i < argc; i++) {
        size_t number = strtoul(argv[i], NULL, 10);
        numbers |= number > 0;
        right |= number == n;
        names |= number == 0;
        named |= strcmp(argv[i], criterion) == 0;
    }
    return (!names || named) && (!numbers || right);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "million") == 0)
        return run_million();
    for (size_t size = 0; size < SIZES; size++) {
        size_t n = sizes[size].n;
        float *embeddings = malloc(n * DIM * sizeof *embeddings);
        float *grad = malloc(n * DIM * sizeof *grad);
        int32_t *labels = malloc(n * sizeof *labels);
        if (!embeddings || !grad || !labels)
            return 1;
        fill(embeddings, labels, n, sizes[size].classes);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            if (wanted(rows[i].criterion, n, argc, argv))
                measure(&rows[i], size, embeddings, labels, grad);
        free(embeddings);
        free(grad);
        free(labels);
    }
    bench_report("criteria", "peak memory", (double)bench_peak_memory() / 0x1p20, "MiB", 0);
    return 0;
}
