#ifndef BENCH_RANK_JOB_H
#define BENCH_RANK_JOB_H

#include <stdbool.h>
#include <stddef.h>

/* Steps of ResNet-50 (frozen batch norm, 224 x 224) without loading and loss: forward, embeddings
 * of all ranks, backward, sums of gradients; in processes of their own. */

enum { RANK_JOB_DIM = 128 };
#define RANK_JOB_ARCH "resnet50_frozen_normalize"

/* What a process measured: means over its steps, and the best of what does not depend on ranks. */
struct rank_measured {
    double step, wait, exchange; /* seconds of a step; of these, in calls to other ranks, and in
                                  * sums of gradients */
    double memory;               /* bytes */
    double forward, backward;    /* seconds */
    double spread;               /* of both together, relative standard deviation */
    double latency, rate; /* seconds of a message of one byte; bytes a second of a large one */
};

/* In main: whether this process is one that rank_job_run started; then *code is its exit status. */
bool rank_job_is(int argc, char **argv, int *code);

/* Runs `ranks` processes of `threads` threads with `batch` images each; out (ranks). With `apart`
 * they are not ranks of one run but alone beside each other. */
void rank_job_run(int ranks, int threads, size_t batch, bool apart, struct rank_measured *out);

#endif
