#include "rank_job.h"

#include "backends/network.h"
#include "base/progress.h"
#include "bench.h"
#include "comm/comm.h"
#include "dml/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 4, VALUES = sizeof(struct rank_measured) / sizeof(double) };

struct job {
    struct dml_batch_parts parts;
    struct dml_network *network;
    struct dml_images images;
    float *embeddings, *all, *grad;
    double forward[STEPS], backward[STEPS], sums;
};

static enum dml_status start_sum(void *comm, float *values, size_t count) {
    return dml_comm_sum_start(comm, values, count);
}

static enum dml_status advance_sums(void *comm, bool wait) {
    return dml_comm_sum_advance(comm, wait);
}

static void open_job(struct job *job, struct dml_graph *graph, size_t batch,
                     struct dml_comm *comm) {
    size_t ranks = (size_t)comm->size;
    *job = (struct job){.parts = {.count = comm->size,
                                  .start_sum = start_sum,
                                  .advance_sums = advance_sums,
                                  .sum_piece = dml_comm_sum_piece(comm),
                                  .data = comm}};
    const struct dml_network_options options = {.batch_hint = batch,
                                                .parts = ranks > 1 ? &job->parts : NULL};
    bench_ok(dml_network_open(&dml_backend_cpu, graph, &options, &job->network));
    for (int p = 0; p < graph->param_count; p++) {
        float *values = malloc(graph->params[p].count * sizeof *values);
        dml_graph_init_param(graph, p, 1, values);
        bench_ok(dml_network_write(job->network, p, DML_SLOT_VALUE, values));
        free(values);
    }
    size_t bytes = batch * 3 * 224 * 224, floats = batch * RANK_JOB_DIM;
    uint8_t *pixels = malloc(bytes);
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < bytes; i++)
        pixels[i] = (uint8_t)dml_rng_bits(&rng);
    job->embeddings = calloc(floats, sizeof(float));
    job->all = calloc(floats * ranks, sizeof(float));
    job->grad = calloc(floats, sizeof(float));
    for (size_t i = 0; i < floats; i++)
        job->grad[i] = (float)(dml_rng_normal(&rng) * 1e-3);
    job->images = (struct dml_images){.n = batch, .height = 224, .width = 224, .pixels = pixels};
}

static void step(struct job *job, struct dml_comm *comm, int i) {
    size_t bytes = job->images.n * RANK_JOB_DIM * sizeof(float);
    double started = dml_now();
    bench_ok(dml_network_forward(job->network, &job->images, job->embeddings));
    job->forward[i] = dml_now() - started;
    bench_ok(dml_comm_allgather(comm, job->embeddings, bytes, job->all));
    double waited = comm->waited;
    started = dml_now();
    bench_ok(dml_network_backward(job->network, job->grad));
    job->sums += comm->waited - waited;
    job->backward[i] = dml_now() - started - (comm->waited - waited);
}

/* The shortest time of an exchange of `bytes` with every other rank, for each of these. */
static double exchange_seconds(struct dml_comm *comm, size_t bytes, int times) {
    char *all = calloc((size_t)comm->size, bytes), *own = calloc(1, bytes);
    double best = INFINITY;
    for (int i = 0; i < times; i++) {
        double started = dml_now();
        bench_ok(dml_comm_allgather(comm, own, bytes, all));
        best = fmin(best, dml_now() - started);
    }
    free(all);
    free(own);
    return best / (comm->size - 1);
}

static double mean(const double *values) {
    double sum = 0;
    for (int i = 0; i < STEPS; i++)
        sum += values[i] / STEPS;
    return sum;
}

static double spread(const struct job *job) {
    double whole = mean(job->forward) + mean(job->backward), squares = 0;
    for (int i = 0; i < STEPS; i++)
        squares += pow(job->forward[i] + job->backward[i] - whole, 2) / (STEPS - 1);
    return sqrt(squares) / whole;
}

/* A process, or one of the ranks; rank 0 writes what was measured to stdout. */
static int measure(size_t batch) {
    enum { LARGE = 1 << 22 };
    struct dml_comm comm;
    struct dml_graph *graph;
    struct job job;
    bench_ok(dml_comm_open("train", 60, &comm));
    bench_ok(dml_graph_build(RANK_JOB_ARCH, RANK_JOB_DIM, 224, &graph));
    open_job(&job, graph, batch, &comm);
    step(&job, &comm, 0);
    double started = dml_now(), waited = comm.waited;
    job.sums = 0;
    for (int i = 0; i < STEPS; i++)
        step(&job, &comm, i);
    struct rank_measured own = {.step = (dml_now() - started) / STEPS,
                                .wait = (comm.waited - waited) / STEPS,
                                .exchange = job.sums / STEPS,
                                .memory = (double)bench_peak_memory(),
                                .forward = mean(job.forward),
                                .backward = mean(job.backward),
                                .spread = spread(&job)};
    if (comm.size > 1) {
        own.latency = exchange_seconds(&comm, 1, 2000);
        own.rate = LARGE / (exchange_seconds(&comm, LARGE, 20) - own.latency);
    }
    struct rank_measured all[comm.size];
    bench_ok(dml_comm_allgather(&comm, &own, sizeof own, all));
    for (int r = 0; comm.rank == 0 && r < comm.size; r++)
        for (int v = 0; v < VALUES; v++)
            printf("%.9g%c", ((const double *)&all[r])[v], v + 1 < VALUES ? ' ' : '\n');
    dml_comm_close(&comm, 0);
    return 0;
}

bool rank_job_is(int argc, char **argv, int *code) {
    *code = 1;
    if (argc == 3 && strcmp(argv[1], "measure") == 0)
        *code = measure((size_t)atoi(argv[2]));
    else if (argc == 5 && strcmp(argv[1], "launch") == 0)
        bench_ok(dml_comm_launch(atoi(argv[2]), argv + 3, "", code));
    else
        return false;
    return true;
}

static FILE *start(int ranks, int threads, size_t batch) {
    char self[4096], command[4300], launch[32] = "";
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = 0;
    if (ranks > 1)
        snprintf(launch, sizeof launch, "launch %d ", ranks);
    snprintf(command, sizeof command, "OMP_NUM_THREADS=%d '%s' %smeasure %zu", threads, self,
             launch, batch);
    return popen(command, "r");
}

void rank_job_run(int ranks, int threads, size_t batch, bool apart, struct rank_measured *out) {
    FILE *outputs[ranks];
    int started = apart ? ranks : 1;
    for (int i = 0; i < started; i++)
        outputs[i] = start(apart ? 1 : ranks, threads, batch);
    for (int r = 0; r < ranks; r++)
        for (int v = 0; v < VALUES; v++) {
            FILE *output = outputs[apart ? r : 0];
            if (!output || fscanf(output, "%lf", &((double *)&out[r])[v]) != 1) {
                fprintf(stderr, "bench: a job of %d ranks failed\n", ranks);
                exit(1);
            }
        }
    for (int i = 0; i < started; i++)
        pclose(outputs[i]);
}
