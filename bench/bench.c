#include "bench.h"

#include "base/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

void bench_report(const char *bench, const char *name, double value, const char *unit,
                  double bound) {
    printf("{\"bench\": \"%s\", \"case\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"", bench, name,
           value, unit);
    if (bound != 0)
        printf(", \"bound\": %.6g, \"ratio\": %.4g", bound, value / bound);
    puts("}");
    fflush(stdout);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, size_t count) {
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

static double processor_time(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

double bench_time(void (*work)(void *data), void *data, int runs, double seconds) {
    enum { MOST = 10000 };
    static double times[MOST];
    const char *wanted = getenv("BENCH_CLOCK");
    double (*clock)(void) = wanted && strcmp(wanted, "processor") == 0 ? processor_time : dml_now;
    if (getenv("BENCH_ONCE")) {
        double before = clock();
        work(data);
        return clock() - before;
    }
    work(data);
    double started = dml_now();
    int count = 0;
    while (count < MOST && (count < runs || dml_now() - started < seconds)) {
        double before = clock();
        work(data);
        times[count++] = clock() - before;
    }
    return bench_median(times, (size_t)count);
}

void bench_ok(enum dml_status status) {
    if (status == DML_OK)
        return;
    fprintf(stderr, "bench: %s\n", dml_error());
    exit(1);
}

size_t bench_peak_memory(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_maxrss * 1024;
}
