/* How long evaluation takes and how much memory it needs.
 *
 *   bench_evaluate             sop, cub and million
 *   bench_evaluate sop         the size of Stanford Online Products' test half, default metrics
 *   bench_evaluate cub         the size of CUB200's, default metrics
 *   bench_evaluate million [n] recalls and mAP@R of n embeddings (1,000,000), against bare gemm
 *   bench_evaluate split [n]   the same with one sample in ten as a query and the others as gallery
 *   bench_evaluate growth [n]  the same from 10,000 up to n: the data of docs/performance
 *
 * With $BENCH_PARTS set, sop and cub also time metrics one by one.
 * Every case runs in a process of its own, so that the peaks of memory are its own. */
#include "base/memory.h"
#include "base/progress.h"
#include "bench.h"
#include "dml/metrics.h"
#include "dml/rng.h"
#include "math/linear.h"
#include "metrics/defaults.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DIM = 128 };
static const double MIB = 1 << 20;

struct samples {
    struct dml_evaluation_set set;
    float *embeddings;
    int32_t *labels;
    uint8_t *is_query, *is_gallery;
};

/* Unit vectors around class centres, in directions of unequal variance as trained embeddings have
 * them. The noise is chosen for a recall@1 of about 0.7, as trained networks reach. */
static void fill_class(float *x, size_t count, size_t class, double noise) {
    struct dml_rng rng = dml_rng_make(7, DML_PURPOSE_OTHER, class, 0);
    double centre[DIM];
    for (size_t k = 0; k < DIM; k++)
        centre[k] = dml_rng_normal(&rng) / sqrt(1 + 0.1 * (double)k);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < DIM; k++)
            x[i * DIM + k] =
                (float)(centre[k] + noise * dml_rng_normal(&rng) / sqrt(1 + 0.1 * (double)k));
    dml_normalize_rows(x, count, DIM, x);
}

/* Class sizes vary within a factor of three of their mean, as SOP's do. */
static bool make_samples(size_t n, size_t classes, double noise, struct samples *out) {
    memset(out, 0, sizeof *out);
    out->embeddings = dml_alloc_aligned(n * DIM, sizeof(float));
    out->labels = dml_alloc(n, sizeof *out->labels);
    size_t *start = dml_alloc(classes + 1, sizeof *start);
    if (!out->embeddings || !out->labels || !start)
        return false;
    double total = 0, sum = 0;
    for (size_t c = 0; c < classes; c++)
        total += 2 + (double)(c * 2654435761u % 1000) / 1000 * 7;
    for (size_t c = 0; c < classes; c++) {
        start[c] = (size_t)(sum / total * (double)n);
        sum += 2 + (double)(c * 2654435761u % 1000) / 1000 * 7;
    }
    start[classes] = n;
#pragma omp parallel for schedule(dynamic, 64)
    for (size_t c = 0; c < classes; c++) {
        fill_class(out->embeddings + start[c] * DIM, start[c + 1] - start[c], c, noise);
        for (size_t i = start[c]; i < start[c + 1]; i++)
            out->labels[i] = (int32_t)c;
    }
    free(start);
    out->set = (struct dml_evaluation_set){
        .n = n, .dim = DIM, .embeddings = out->embeddings, .labels = out->labels};
    return true;
}

static void free_samples(struct samples *samples) {
    free(samples->embeddings);
    free(samples->labels);
    free(samples->is_query);
    free(samples->is_gallery);
}

static double evaluate(const struct samples *samples, const char *const *names, size_t count,
                       bool show) {
    struct dml_metric_value values[32];
    double started = dml_now();
    if (dml_evaluate(&samples->set, names, count, NULL, values)) {
        fprintf(stderr, "%s\n", dml_error());
        exit(1);
    }
    double seconds = dml_now() - started;
    for (size_t i = 0; show && i < count; i++)
        fprintf(stderr, "  %s %.4f", values[i].name, values[i].value);
    if (show)
        fputc('\n', stderr);
    dml_metric_values_free(values, count);
    return seconds;
}

/* Processor time of this process in seconds: on a shared machine, this over the number of
 * processors is what a run would take if it had them to itself. */
static double processor_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Parts of the defaults, to see where the time goes. */
static void report_parts(const struct samples *samples, const char *bench) {
    static const struct {
        const char *label, *name;
    } parts[] = {{"recall alone", "e_recall@1"}, {"mAP_1000 alone", "mAP_1000"},
                 {"mAP alone", "mAP"},           {"mAP@R alone", "mAP@R"},
                 {"nmi alone", "nmi"},           {"rho_spectrum alone", "rho_spectrum@1"},
                 {"dists alone", "dists@intra"}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s, %s", bench, parts[i].label);
        bench_report("evaluate", text, evaluate(samples, &parts[i].name, 1, false), "s", 0);
    }
}

static void run_default(const char *name, size_t n, size_t classes, double noise, bool parts,
                        double seconds, double mebibytes) {
    struct samples samples;
    if (!make_samples(n, classes, noise, &samples))
        exit(1);
    evaluate(&samples, dml_default_metrics, DML_DEFAULT_METRIC_COUNT, true);
    char text[64];
    snprintf(text, sizeof text, "%s, peak memory", name);
    bench_report("evaluate", text, (double)bench_peak_memory() / MIB, "MiB", mebibytes);
    double best = INFINITY, processor = INFINITY;
    for (int run = 0; run < (n < 10000 ? 9 : 1); run++) {
        double before = processor_time();
        best = fmin(best, evaluate(&samples, dml_default_metrics, DML_DEFAULT_METRIC_COUNT, false));
        processor = fmin(processor, processor_time() - before);
    }
    snprintf(text, sizeof text, "%s, default metrics, processor time", name);
    bench_report("evaluate", text, processor, "s", 0);
    snprintf(text, sizeof text, "%s, default metrics", name);
    bench_report("evaluate", text, best, "s", seconds);
    if (parts)
        report_parts(&samples, name);
    free_samples(&samples);
}

/* Pairs per second of nothing but inner products: the best of several shapes. */
static double gemm_pairs(void) {
    static const size_t shapes[][2] = {{512, 512}, {1024, 1024}, {2048, 2048}, {4096, 2048}};
    double best = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        size_t m = shapes[s][0], n = shapes[s][1];
        float *a = dml_alloc(m * DIM, sizeof *a), *b = dml_alloc(n * DIM, sizeof *b);
        float *c = dml_alloc(m * n, sizeof *c);
        if (!a || !b || !c)
            exit(1);
        for (size_t i = 0; i < m * DIM; i++)
            a[i] = (float)(i % 17) - 8;
        for (size_t i = 0; i < n * DIM; i++)
            b[i] = (float)(i % 13) - 6;
        dml_gemm(0, 1, m, n, DIM, 1, a, DIM, b, DIM, 0, c, n);
        size_t runs = 0;
        double started = dml_now(), seconds;
        do {
            dml_gemm(0, 1, m, n, DIM, 1, a, DIM, b, DIM, 0, c, n);
            runs++;
        } while ((seconds = dml_now() - started) < 1);
        best = fmax(best, (double)(m * n) * (double)runs / seconds);
        free(a);
        free(b);
        free(c);
    }
    return best;
}

static const char *const retrieval[] = {"e_recall@1", "e_recall@10", "e_recall@100",
                                        "e_recall@1000", "mAP@R"};

static void run_retrieval(const char *name, size_t n, bool split, double mebibytes) {
    struct samples samples;
    if (!make_samples(n, n * 11316 / 60502, 1.2, &samples))
        exit(1);
    size_t queries = n;
    if (split) {
        samples.is_query = dml_alloc(n, 1);
        samples.is_gallery = dml_alloc(n, 1);
        if (!samples.is_query || !samples.is_gallery)
            exit(1);
        queries = 0;
        for (size_t i = 0; i < n; i++) {
            samples.is_query[i] =
                i % 10 == 0 && i > 0 && samples.labels[i - 1] == samples.labels[i];
            samples.is_gallery[i] = !samples.is_query[i];
            queries += samples.is_query[i];
        }
        samples.set.is_query = samples.is_query;
        samples.set.is_gallery = samples.is_gallery;
    }
    double before = gemm_pairs(), processor = processor_time();
    double seconds = evaluate(&samples, retrieval, sizeof retrieval / sizeof retrieval[0], true);
    processor = processor_time() - processor;
    double memory = (double)bench_peak_memory() / MIB;
    double bare = (before + gemm_pairs()) / 2;
    double pairs = (double)queries * (double)(split ? n - queries : n) / seconds;
    char text[96];
    snprintf(text, sizeof text, "%s %zu, recalls and mAP@R", name, n);
    bench_report("evaluate", text, seconds, "s", 0);
    snprintf(text, sizeof text, "%s %zu, recalls and mAP@R, processor time", name, n);
    bench_report("evaluate", text, processor, "s", 0);
    snprintf(text, sizeof text, "%s %zu, peak memory", name, n);
    bench_report("evaluate", text, memory, "MiB", mebibytes);
    snprintf(text, sizeof text, "%s %zu, pairs beside bare gemm", name, n);
    bench_report("evaluate", text, pairs, "pairs/s", bare);
    free_samples(&samples);
}

static void run_case(const char *name, size_t n) {
    bool parts = getenv("BENCH_PARTS") != NULL;
    if (strcmp(name, "sop") == 0)
        run_default("sop", 60502, 11316, 1.2, parts, 15, 400);
    else if (strcmp(name, "cub") == 0)
        run_default("cub", 5924, 100, 1.9, parts, 0.15, 0);
    else if (strcmp(name, "million") == 0 || strcmp(name, "growth") == 0)
        run_retrieval(name, n, false, n == 1000000 ? 2048 : 0);
    else if (strcmp(name, "split") == 0)
        run_retrieval(name, n, true, n == 1000000 ? 2048 : 0);
    else
        fprintf(stderr, "bench_evaluate: there is no case '%s': sop, cub, million, split, growth\n",
                name);
}

static int run_apart(const char *name, size_t n) {
    pid_t child = fork();
    if (child == 0) {
        run_case(name, n);
        exit(0);
    }
    int status = 1;
    return child < 0 || waitpid(child, &status, 0) < 0 || status != 0;
}

int main(int argc, char **argv) {
    size_t n = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    if (argc < 2)
        return run_apart("sop", n) | run_apart("cub", n) | run_apart("million", n);
    if (strcmp(argv[1], "growth") != 0)
        return run_apart(argv[1], n);
    static const size_t sizes[] = {10000, 20000, 50000, 100000, 200000, 500000, 1000000};
    int failed = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i] <= n)
            failed |= run_apart("growth", sizes[i]);
    return failed;
}
