#include "schedule.h"

#include "comm/comm.h"
#include "dml/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Floats that are added at a time; those of layers with fewer are sent together. */
static double piece_of(int ranks) {
    return (double)dml_comm_sum_piece(&(struct dml_comm){.size = ranks});
}

/* A simulation under way; times in seconds. */
struct simulation {
    const struct schedule *s;
    double *at;       /* (ranks, like all) what each has computed, or waited for, until then */
    double *out, *in; /* when its link is free again */
    double *pace;     /* how much slower it is than the mean */
    double *computed, *sent; /* in the step at hand */
    double *starts, *next;   /* scratch */
};

static double latest(const double *times, int count) {
    double most = times[0];
    for (int r = 1; r < count; r++)
        most = fmax(most, times[r]);
    return most;
}

/* Every rank sends `bytes` to every other, from starts[r] on; ends[r]: when it has sent and
 * received all. In each turn every rank sends to the one that is so many places after it. */
static void exchange(struct simulation *x, const double *starts, double bytes, double *ends) {
    const struct schedule *s = x->s;
    int n = s->ranks;
    double takes = (s->latency + bytes / s->rate) * s->slowdown;
    if (s->kind == SCHEDULE_TREES) { /* all that a rank sends, in log2 N messages */
        double all = latest(starts, n), bytes_in = bytes * (n - 1);
        double time = (s->latency * log2(n) + bytes_in / s->rate) * s->slowdown;
        for (int r = 0; r < n; r++)
            ends[r] = x->out[r] = x->in[r] = fmax(all, fmax(x->out[r], x->in[r])) + time;
        return;
    }
    for (int r = 0; r < n; r++)
        x->next[r] = starts[r];
    for (int turn = 1; turn < n; turn++)
        for (int r = 0; r < n; r++) {
            int to = (r + turn) % n;
            /* the receiver's link takes the message once both have come to this exchange */
            double start = fmax(fmax(starts[r], starts[to]), fmax(x->out[r], x->in[to]));
            x->out[r] = x->in[to] = start + takes;
            x->next[r] = fmax(x->next[r], start + takes);
            x->next[to] = fmax(x->next[to], start + takes);
        }
    for (int r = 0; r < n; r++)
        ends[r] = x->next[r];
}

/* The sums of `floats` gradients that all ranks have from starts[r] on. */
static void add_up(struct simulation *x, const double *starts, double floats, double *ends) {
    const struct schedule *s = x->s;
    double part = piece_of(s->ranks);
    for (int r = 0; r < s->ranks; r++)
        ends[r] = starts[r];
    for (double at = 0; at < floats; at += part) {
        double slice = fmin(part, floats - at) / s->ranks;
        exchange(x, ends, 4 * slice, ends);
        for (int r = 0; r < s->ranks; r++)
            ends[r] += slice * (s->ranks - 1) / s->adding * s->slowdown;
        exchange(x, ends, 4 * slice, ends);
    }
}

/* One step from x->at to x->at; returns the seconds after the backward pass. */
static double simulate_step(struct simulation *x, struct dml_rng *rng) {
    const struct schedule *s = x->s;
    int n = s->ranks;
    double *pace = x->pace, *computed = x->computed, *sent = x->sent;
    double waited = 0, floats = 0, piece = piece_of(n);
    for (int r = 0; r < n; r++) {
        pace[r] = fmax(0.5, 1 + s->spread * dml_rng_normal(rng)) * s->slowdown;
        computed[r] = x->at[r] + s->forward * pace[r];
    }
    exchange(x, computed, s->embedding, computed);
    for (int r = 0; r < n; r++)
        sent[r] = computed[r] = computed[r] + s->whole * s->slowdown;
    for (size_t l = 0; l < s->count; l++) {
        for (int r = 0; r < n; r++)
            computed[r] += s->layers[l].seconds * pace[r];
        floats += s->layers[l].floats;
        bool last = l + 1 == s->count, full = floats >= piece;
        if (!last && (s->kind == SCHEDULE_AFTER || !full))
            continue;
        for (int r = 0; r < n; r++)
            x->starts[r] = fmax(computed[r], sent[r]);
        add_up(x, x->starts, floats, sent);
        floats = 0;
    }
    for (int r = 0; r < n; r++) {
        waited += fmax(sent[r] - computed[r], 0) / n;
        x->at[r] = fmax(sent[r], computed[r]);
    }
    return waited;
}

void schedule_simulate(const struct schedule *schedule, int steps, struct schedule_step *out) {
    size_t n = (size_t)schedule->ranks;
    double *memory = calloc(8 * n, sizeof *memory);
    struct simulation x = {schedule,       memory,         memory + n,
                           memory + 2 * n, memory + 3 * n, memory + 4 * n,
                           memory + 5 * n, memory + 6 * n, memory + 7 * n};
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 1, n);
    if (!memory)
        exit(1);
    double waited = 0;
    for (int i = 0; i < steps; i++)
        waited += simulate_step(&x, &rng);
    *out = (struct schedule_step){latest(x.at, schedule->ranks) / steps, waited / steps};
    free(memory);
}

static void expect(const char *what, double seconds, double expected) {
    if (fabs(seconds - expected) < 1e-9 * expected)
        return;
    fprintf(stderr, "bench: the simulation of %s takes %.9g s, not %.9g\n", what, seconds,
            expected);
    exit(1);
}

void schedule_check(void) {
    enum { RANKS = 4 };
    /* two slices for each rank in the first layer, one in the second */
    const double part = piece_of(RANKS), slice = part / RANKS;
    const struct schedule_layer layers[] = {{0.1, 2 * part}, {0.3, part}};
    struct schedule s = {.kind = SCHEDULE_AFTER,
                         .ranks = RANKS,
                         .slowdown = 1,
                         .forward = 0.2,
                         .layers = layers,
                         .count = 2,
                         .whole = 0.05,
                         .embedding = 1000,
                         .rate = 1e9,
                         .latency = 1e-4,
                         .adding = 1e9};
    struct schedule_step step;
    double others = RANKS - 1, gather = others * (1e-4 + 1000 / 1e9);
    double sum = 2 * others * (1e-4 + 4 * slice / 1e9) + slice * others / 1e9;
    schedule_simulate(&s, 3, &step);
    expect("equal ranks", step.seconds, 0.2 + gather + 0.05 + 0.4 + 3 * sum);
    expect("their sums", step.exchange, 3 * sum);
    s.kind = SCHEDULE_OVERLAPPED;
    schedule_simulate(&s, 3, &step);
    expect("ranks that overlap", step.seconds, 0.2 + gather + 0.05 + 0.4 + sum);
    s.ranks = 1;
    s.spread = 0;
    schedule_simulate(&s, 1, &step);
    expect("one rank", step.seconds, 0.65);
    s.ranks = RANKS;
    s.slowdown = 2;
    s.kind = SCHEDULE_AFTER;
    schedule_simulate(&s, 1, &step);
    expect("two ranks a core", step.seconds, 2 * (0.2 + gather + 0.05 + 0.4 + 3 * sum));
}
