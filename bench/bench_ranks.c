#include "backends/network.h"
#include "base/progress.h"
#include "bench.h"
#include "comm/comm.h"
#include "dml/rng.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* usage: bench_ranks
 *
 * Steps of ResNet-50 (frozen batch norm, 224 x 224) without loading and loss: forward, embeddings
 * of all ranks, backward, sums of gradients. One process with two threads, one rank and two ranks
 * of one thread each, with the same images for each thread; then what the model of docs/CLUSTER.md
 * predicts for more ranks. */

enum { PART = 8, DIM = 128, STEPS = 2 };

/* What a process measured. */
struct measured {
    double step, wait, exchange; /* seconds of a step; of these, in calls to other ranks */
    double memory;               /* bytes */
};

struct job {
    struct dml_network *network;
    struct dml_images images;
    float *embeddings, *all, *grad;
};

static void open_job(struct job *job, struct dml_graph *graph, size_t batch, int ranks) {
    const struct dml_network_options options = {.batch_hint = batch};
    bench_ok(dml_network_open(&dml_backend_cpu, graph, &options, &job->network));
    for (int p = 0; p < graph->param_count; p++) {
        float *values = malloc(graph->params[p].count * sizeof *values);
        dml_graph_init_param(graph, p, 1, values);
        bench_ok(dml_network_write(job->network, p, DML_SLOT_VALUE, values));
        free(values);
    }
    size_t bytes = batch * 3 * 224 * 224, floats = batch * DIM;
    uint8_t *pixels = malloc(bytes);
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < bytes; i++)
        pixels[i] = (uint8_t)dml_rng_bits(&rng);
    job->embeddings = calloc(floats, sizeof(float));
    job->all = calloc(floats * (size_t)ranks, sizeof(float));
    job->grad = calloc(floats, sizeof(float));
    for (size_t i = 0; i < floats; i++)
        job->grad[i] = (float)(dml_rng_normal(&rng) * 1e-3);
    job->images = (struct dml_images){.n = batch, .height = 224, .width = 224, .pixels = pixels};
}

static void step(struct job *job, struct dml_comm *comm, double *sums) {
    float *values;
    size_t count;
    bench_ok(dml_network_forward(job->network, &job->images, job->embeddings));
    bench_ok(
        dml_comm_allgather(comm, job->embeddings, job->images.n * DIM * sizeof(float), job->all));
    bench_ok(dml_network_backward(job->network, job->grad));
    bench_ok(dml_network_gradients(job->network, &values, &count));
    double started = dml_now();
    bench_ok(dml_comm_sum(comm, values, count));
    *sums += dml_now() - started;
}

/* A process, or one of the ranks; rank 0 writes what it measured to stdout. */
static int measure(size_t batch) {
    struct dml_comm comm;
    struct dml_graph *graph;
    struct job job;
    double sums = 0;
    bench_ok(dml_comm_open("train", 60, &comm));
    bench_ok(dml_graph_build("resnet50_frozen_normalize", DIM, 224, &graph));
    open_job(&job, graph, batch, comm.size);
    step(&job, &comm, &sums);
    double started = dml_now(), waited = comm.waited;
    sums = 0;
    for (int i = 0; i < STEPS; i++)
        step(&job, &comm, &sums);
    const struct measured own = {(dml_now() - started) / STEPS, (comm.waited - waited) / STEPS,
                                 sums / STEPS, (double)bench_peak_memory()};
    struct measured all[comm.size];
    bench_ok(dml_comm_allgather(&comm, &own, sizeof own, all));
    for (int r = 0; comm.rank == 0 && r < comm.size; r++)
        printf("%.9g %.9g %.9g %.9g\n", all[r].step, all[r].wait, all[r].exchange, all[r].memory);
    dml_comm_close(&comm, 0);
    return 0;
}

/* Runs `ranks` processes of `threads` threads, and reads what they measured. */
static void run(const char *self, int ranks, int threads, size_t batch, struct measured *out) {
    char command[4300];
    snprintf(command, sizeof command, "OMP_NUM_THREADS=%d '%s' %s %d measure %zu", threads, self,
             ranks > 1 ? "launch" : "alone", ranks, batch);
    FILE *output = popen(command, "r");
    for (int r = 0; r < ranks; r++)
        if (!output || fscanf(output, "%lf %lf %lf %lf", &out[r].step, &out[r].wait,
                              &out[r].exchange, &out[r].memory) != 4) {
            fprintf(stderr, "bench: %s: failed\n", command);
            exit(1);
        }
    pclose(output);
}

/* Seconds that the sums of gradients take with N ranks whose links carry `rate` bytes per second in
 * each direction and begin a message every `latency` seconds: see dml_comm_sum in comm.c. Every
 * rank sums a slice of 1 MB at a time, of what all send, and sends it to all. */
static double sum_seconds(double parameters, double ranks, double rate, double latency) {
    double slice = 1 << 18, rounds = parameters / (slice * ranks);
    double whole = rounds < 1 ? 1 : rounds;
    double bytes = 2 * (ranks - 1) / ranks * 4 * parameters;
    return bytes / rate + whole * 2 * (ranks - 1) * latency;
}

static void tell_of_scale(double compute, size_t batch, double parameters, double rate,
                          double latency, const char *name) {
    for (int ranks = 2; ranks <= 1024; ranks *= ranks < 8 ? 2 : 4) {
        char text[80];
        double share = compute / (compute + sum_seconds(parameters, ranks, rate, latency));
        snprintf(text, sizeof text, "model, %s, %zu images a rank, %d ranks", name, batch, ranks);
        bench_report("ranks", text, share, "share of N times one rank", 0);
    }
}

int main(int argc, char **argv) {
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = 0;
    if (argc == 3 && strcmp(argv[1], "measure") == 0)
        return measure((size_t)atoi(argv[2]));
    if (argc == 5 && strcmp(argv[1], "alone") == 0)
        return measure((size_t)atoi(argv[4]));
    if (argc == 5) {
        int code = 1;
        bench_ok(dml_comm_launch(atoi(argv[2]), argv + 3, "", &code));
        return code;
    }
    struct measured process, rank, ranks[2];
    run(self, 1, 2, 2 * PART, &process);
    run(self, 1, 1, PART, &rank);
    run(self, 2, 1, PART, ranks);
    double whole = 2 * PART / process.step, step = ranks[0].step;
    bench_report("ranks", "one process, two threads", whole, "images/s", 0);
    bench_report("ranks", "one rank of one thread", PART / rank.step, "images/s", 0);
    bench_report("ranks", "two ranks of one thread", 2 * PART / step, "images/s", whole);
    double parameters = 23508032 + 2048 * DIM + DIM;
    for (int r = 0; r < 2; r++) {
        char text[40];
        snprintf(text, sizeof text, "rank %d waits", r);
        bench_report("ranks", text, ranks[r].wait / step, "share of a step", 0);
        snprintf(text, sizeof text, "rank %d, sums of gradients", r);
        bench_report("ranks", text, ranks[r].exchange, "s", 0);
        snprintf(text, sizeof text, "rank %d, memory", r);
        bench_report("ranks", text, ranks[r].memory / 1e6, "MB", process.memory / 1e6);
    }
    tell_of_scale(rank.step, PART, parameters, 1.1e9, 20e-6, "10 Gbit/s");
    tell_of_scale(rank.step, PART, parameters, 11e9, 20e-6, "100 Gbit/s");
    return 0;
}
