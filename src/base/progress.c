#include "base/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double dml_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void format_time(char *out, size_t size, double seconds) {
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

static void show(struct dml_progress *p, bool last) {
    double elapsed = dml_now() - p->started;
    double rate = elapsed > 0 ? (double)p->done / elapsed : 0;
    char left[24];
    double remaining = rate > 0 ? (double)(p->total - p->done) / rate : 0;
    format_time(left, sizeof left, last ? elapsed : remaining);
    const char *word = last ? "taken" : "left";
    const char *comma = p->note[0] ? ", " : "";
    if (p->terminal) {
        char bar[25];
        size_t filled = p->total ? p->done * (sizeof bar - 1) / p->total : 0;
        memset(bar, '.', sizeof bar - 1);
        memset(bar, '#', filled);
        bar[sizeof bar - 1] = 0;
        fprintf(stderr, "\r\033[K%s [%s] %zu/%zu %.0f %s/s, %s %s%s%s", p->title, bar, p->done,
                p->total, rate, p->unit, left, word, comma, p->note);
        if (last)
            fputc('\n', stderr);
    } else {
        fprintf(stderr, "%s: %zu/%zu %s, %.0f/s, %s %s%s%s\n", p->title, p->done, p->total, p->unit,
                rate, left, word, comma, p->note);
    }
    fflush(stderr);
    p->shown = dml_now();
}

void dml_progress_start(struct dml_progress *progress, const char *title, const char *unit,
                        size_t total) {
    memset(progress, 0, sizeof *progress);
    snprintf(progress->title, sizeof progress->title, "%s", title);
    snprintf(progress->unit, sizeof progress->unit, "%s", unit);
    progress->total = total;
    progress->started = progress->shown = dml_now();
    progress->terminal = isatty(STDERR_FILENO);
}

void dml_progress_update(struct dml_progress *progress, size_t done) {
    progress->done = done < progress->total ? done : progress->total;
    double interval = progress->terminal ? 0.1 : 10.0;
    if (!progress->quiet && dml_now() - progress->shown >= interval)
        show(progress, false);
}

void dml_progress_note(struct dml_progress *progress, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(progress->note, sizeof progress->note, format, arguments);
    va_end(arguments);
}

void dml_progress_end(struct dml_progress *progress) {
    if (!progress->quiet)
        show(progress, true);
}
