#include "bench.h"
#include "rank_job.h"

#include <stdio.h>

/* usage: bench_ranks
 *
 * One process with two threads, one rank and two ranks of one thread each, with the same images for
 * each thread: in turns, of which medians are shown. */

enum { PART = 8, TURNS = 5 };

/* Of values[0], values[stride], ... */
static double median(const double *values, size_t stride) {
    double sorted[TURNS];
    for (int t = 0; t < TURNS; t++)
        sorted[t] = values[(size_t)t * stride];
    return bench_median(sorted, TURNS);
}

int main(int argc, char **argv) {
    enum { STRIDE = sizeof(struct rank_measured) / sizeof(double) };
    int code;
    if (rank_job_is(argc, argv, &code))
        return code;
    struct rank_measured process[TURNS], rank[TURNS], turn[2], ranks[2][TURNS];
    for (int t = 0; t < TURNS; t++) {
        rank_job_run(1, 2, 2 * PART, false, &process[t]);
        rank_job_run(1, 1, PART, false, &rank[t]);
        rank_job_run(2, 1, PART, false, turn);
        ranks[0][t] = turn[0];
        ranks[1][t] = turn[1];
    }
    double whole = 2 * PART / median(&process->step, STRIDE);
    double step = median(&ranks[0]->step, STRIDE);
    bench_report("ranks", "one process, two threads", whole, "images/s", 0);
    bench_report("ranks", "one rank of one thread", PART / median(&rank->step, STRIDE), "images/s",
                 0);
    bench_report("ranks", "two ranks of one thread", 2 * PART / step, "images/s", whole);
    for (int r = 0; r < 2; r++) {
        char text[40];
        snprintf(text, sizeof text, "rank %d waits", r);
        bench_report("ranks", text, median(&ranks[r]->wait, STRIDE) / step, "share of a step", 0);
        snprintf(text, sizeof text, "rank %d, sums of gradients", r);
        bench_report("ranks", text, median(&ranks[r]->exchange, STRIDE), "s", 0);
        snprintf(text, sizeof text, "rank %d, memory", r);
        bench_report("ranks", text, ranks[r]->memory / 1e6, "MB", process->memory / 1e6);
    }
    return 0;
}
