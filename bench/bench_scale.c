#include "base/progress.h"
#include "bench.h"
#include "conv_bound.h"
#include "nn/graph.h"
#include "rank_job.h"
#include "schedule.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

/* usage: bench_scale
 *
 * Steps of ResNet-50 on 1, 2 and 4 ranks of this machine, of one thread and 8 images each, and the
 * same on the simulation of bench/schedule.h, which knows what one rank takes without others, how
 * the backward pass divides among layers, and what messages of one size take. Then the simulation
 * of many machines, with these times and with those of a GPU (docs/CLUSTER.md). */

enum { PART = 8, CARD_PART = 32, STEPS = 20, MOST_LAYERS = 64 };

/* Layers from the last to the first, with the gradients of the batch norm behind each. */
static size_t find_layers(double backward, struct schedule_layer *layers) {
    struct dml_graph *graph;
    double seconds[MOST_LAYERS] = {0}, sum = 0, rest = 0;
    size_t count = 0;
    bench_ok(dml_graph_build(RANK_JOB_ARCH, RANK_JOB_DIM, 224, &graph));
    struct conv_bound *bound = conv_bound_create(graph, PART, true, false);
    for (int i = 0; i < 3; i++)
        conv_bound_layers(bound, seconds);
    conv_bound_free(bound);
    for (int i = graph->node_count - 1; i >= 0; i--) {
        for (int p = 0; p < graph->param_count; p++)
            if (graph->params[p].node == i && dml_param_learnable(&graph->params[p]))
                rest += (double)graph->params[p].count;
        if (graph->nodes[i].op == DML_OP_CONV) {
            layers[count++] = (struct schedule_layer){0, rest};
            rest = 0;
        }
    }
    for (size_t i = 0; i < count; i++)
        sum += layers[i].seconds = seconds[count - 1 - i];
    for (size_t i = 0; i < count; i++)
        layers[i].seconds *= backward / sum;
    dml_graph_free(graph);
    return count;
}

/* Floats that a core adds in a second to others, of slices as the ranks' are. */
static double adding(void) {
    enum { FLOATS = 1 << 18, TIMES = 50 };
    static float a[FLOATS], b[FLOATS];
    double best = INFINITY;
    for (int i = 0; i < TIMES; i++) {
        double started = dml_now();
        for (int k = 0; k < FLOATS; k++)
            a[k] += b[k];
        __asm__ volatile("" : : "r"(a) : "memory");
        best = fmin(best, dml_now() - started);
    }
    return FLOATS / best;
}

static void compare(struct schedule *s, int ranks, int cores) {
    struct rank_measured measured[4];
    struct schedule_step step;
    char text[60];
    double seconds = 0, exchanging = 0;
    rank_job_run(ranks, 1, PART, false, measured);
    for (int r = 0; r < ranks; r++) {
        seconds += measured[r].step / ranks;
        exchanging += measured[r].exchange / ranks;
    }
    s->ranks = ranks;
    s->slowdown = ranks > cores ? (double)ranks / cores : 1;
    schedule_simulate(s, STEPS, &step);
    snprintf(text, sizeof text, "%d rank%s here, a step", ranks, ranks > 1 ? "s" : "");
    bench_report("scale", text, step.seconds, "s, simulated", seconds);
    snprintf(text, sizeof text, "%d ranks here, after the backward pass", ranks);
    if (ranks > 1)
        bench_report("scale", text, step.exchange, "s, simulated", exchanging);
}

/* The share of N times one rank that is left, for each way to send gradients. `flops`: of every
 * rank, for distances. */
static void predict(struct schedule s, const char *name, size_t part, double rate, double latency,
                    double flops) {
    static const char *const kinds[] = {"after the backward pass", "overlapped", "trees"};
    double alone = s.forward;
    for (size_t l = 0; l < s.count; l++)
        alone += s.layers[l].seconds;
    s.rate = rate;
    s.latency = latency;
    s.slowdown = 1;
    s.embedding = (double)part * (4 * RANK_JOB_DIM + 8);
    for (s.ranks = 8; s.ranks <= 1024; s.ranks *= s.ranks == 8 ? 16 : 8) {
        double batch = (double)part * s.ranks;
        s.whole = 2 * batch * batch * RANK_JOB_DIM / flops;
        for (s.kind = SCHEDULE_AFTER; s.kind <= SCHEDULE_TREES; s.kind++) {
            struct schedule_step step;
            char text[100];
            schedule_simulate(&s, 4, &step);
            snprintf(text, sizeof text, "%s, %zu images a rank, %d ranks, %s", name, part, s.ranks,
                     kinds[s.kind]);
            bench_report("scale", text, alone / step.seconds, "share of N times one rank", 0);
        }
    }
}

int main(int argc, char **argv) {
    int code, cores = omp_get_num_procs();
    if (rank_job_is(argc, argv, &code))
        return code;
    schedule_check();
    static struct schedule_layer layers[MOST_LAYERS];
    struct rank_measured alone[2], pair[2];
    rank_job_run(2, 1, PART, true, alone);
    rank_job_run(2, 1, PART, false, pair);
    double backward = (alone[0].backward + alone[1].backward) / 2;
    omp_set_num_threads(1);
    struct schedule s = {.kind = SCHEDULE_OVERLAPPED,
                         .forward = (alone[0].forward + alone[1].forward) / 2,
                         .layers = layers,
                         .count = find_layers(backward, layers),
                         .spread = (alone[0].spread + alone[1].spread) / 2,
                         .embedding = PART * 4 * RANK_JOB_DIM,
                         .rate = pair[0].rate,
                         .latency = pair[0].latency,
                         .adding = adding()};
    bench_report("scale", "forward", s.forward, "s", 0);
    bench_report("scale", "backward", backward, "s", 0);
    bench_report("scale", "spread of a rank's time", s.spread, "share", 0);
    bench_report("scale", "a message between processes", s.latency * 1e6, "us", 0);
    bench_report("scale", "bytes between processes", s.rate / 1e9, "GB/s", 0);
    bench_report("scale", "adding", s.adding / 1e9, "Gfloat/s", 0);
    for (int ranks = 1; ranks <= 4; ranks *= 2)
        compare(&s, ranks, cores);
    predict(s, "10 Gbit/s", PART, 1.1e9, 20e-6, 50e9);
    predict(s, "100 Gbit/s", PART, 11e9, 20e-6, 50e9);
    /* a card that takes 15 ms for 32 images, on links of 50 GB/s; distances on its host or on it */
    double scale = 0.015 / (s.forward + backward);
    s.forward *= scale;
    for (size_t l = 0; l < s.count; l++)
        layers[l].seconds *= scale;
    s.spread = 0.02;
    s.adding = 500e9;
    predict(s, "GPU, distances on the host", CARD_PART, 50e9, 5e-6, 1e12);
    predict(s, "GPU, distances on the card", CARD_PART, 50e9, 5e-6, 20e12);
    return 0;
}
