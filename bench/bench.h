#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "dml/error.h"

#include <stddef.h>

/* Prints one figure as a JSON line on stdout: {"bench": ..., "case": ..., "value": ...,
 * "unit": ..., "bound": ..., "ratio": ...}. A bound of 0 leaves bound and ratio out; ratio is
 * value / bound. */
void bench_report(const char *bench, const char *name, double value, const char *unit,
                  double bound);

/* Median seconds of one call of `work(data)`: one call to warm up, then at least `runs` calls and
 * at least `seconds` of them. With BENCH_ONCE set, as where only the benchmark itself is tested,
 * one call is all. */
double bench_time(void (*work)(void *data), void *data, int runs, double seconds);

/* The median of values (count >= 1), which are sorted. */
double bench_median(double *values, size_t count);

/* Ends the benchmark with the error's message unless `status` is DML_OK. */
void bench_ok(enum dml_status status);

/* The largest resident set of this process so far, in bytes. */
size_t bench_peak_memory(void);

#endif
