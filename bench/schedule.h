#ifndef BENCH_SCHEDULE_H
#define BENCH_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>

/* A simulation of the steps of N ranks, message by message: each computes its part of a batch, all
 * exchange embeddings, gradients are added in slices, of which each rank owns one (dml_comm_sum).
 * Ranks differ in how long they take, so that each step waits for the slowest twice. */

/* A layer in the order of the backward pass. */
struct schedule_layer {
    double seconds, floats; /* its backward pass, its gradients */
};

/* When gradients are sent. */
enum schedule_kind {
    SCHEDULE_AFTER,      /* after the backward pass, straight from rank to rank, as GPUs do */
    SCHEDULE_OVERLAPPED, /* while earlier layers are still being computed, as processors do */
    SCHEDULE_TREES       /* overlapped, and 2 log2 N messages for 2 (N - 1), as NCCL's trees */
};

struct schedule {
    enum schedule_kind kind;
    int ranks;
    double slowdown; /* of everything: ranks per core, where there are more ranks than cores */
    double forward;  /* seconds */
    const struct schedule_layer *layers;
    size_t count;
    double whole;     /* seconds that every rank computes over the whole batch */
    double spread;    /* of the computing time, relative standard deviation */
    double embedding; /* bytes of a rank's part */
    double rate;      /* bytes a second in and out of a rank */
    double latency;   /* seconds that a message takes besides its bytes, of sender and receiver */
    double adding;    /* floats a second */
};

/* Means over ranks and steps. */
struct schedule_step {
    double seconds, exchange; /* of a step; in it, from the end of the backward pass */
};

void schedule_simulate(const struct schedule *schedule, int steps, struct schedule_step *out);

/* Ends the program unless the simulation takes as long as can be computed by hand for equal ranks.
 */
void schedule_check(void);

#endif
