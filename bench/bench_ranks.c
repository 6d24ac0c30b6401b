#include "bench.h"
#include "rank_job.h"

#include <stdio.h>

/* usage: bench_ranks
 *
 * One process with two threads, one rank and two ranks of one thread each, with the same images for
 * each thread. */

enum { PART = 8 };

int main(int argc, char **argv) {
    int code;
    if (rank_job_is(argc, argv, &code))
        return code;
    struct rank_measured process, rank, ranks[2];
    rank_job_run(1, 2, 2 * PART, false, &process);
    rank_job_run(1, 1, PART, false, &rank);
    rank_job_run(2, 1, PART, false, ranks);
    double whole = 2 * PART / process.step, step = ranks[0].step;
    bench_report("ranks", "one process, two threads", whole, "images/s", 0);
    bench_report("ranks", "one rank of one thread", PART / rank.step, "images/s", 0);
    bench_report("ranks", "two ranks of one thread", 2 * PART / step, "images/s", whole);
    for (int r = 0; r < 2; r++) {
        char text[40];
        snprintf(text, sizeof text, "rank %d waits", r);
        bench_report("ranks", text, ranks[r].wait / step, "share of a step", 0);
        snprintf(text, sizeof text, "rank %d, sums of gradients", r);
        bench_report("ranks", text, ranks[r].exchange, "s", 0);
        snprintf(text, sizeof text, "rank %d, memory", r);
        bench_report("ranks", text, ranks[r].memory / 1e6, "MB", process.memory / 1e6);
    }
    return 0;
}
