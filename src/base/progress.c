#include "base/progress.h"

#include "base/messages.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

double dml_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void tell(struct dml_progress *progress, bool first, bool last) {
    if (progress->quiet)
        return;
    progress->told = dml_now();
    dml_report_progress(&(struct dml_progress_report){.title = progress->title,
                                                      .unit = progress->unit,
                                                      .note = progress->note,
                                                      .done = progress->done,
                                                      .total = progress->total,
                                                      .seconds = progress->told - progress->started,
                                                      .first = first,
                                                      .last = last,
                                                      .brief = progress->brief});
}

void dml_progress_start(struct dml_progress *progress, const char *title, const char *unit,
                        size_t total) {
    memset(progress, 0, sizeof *progress);
    snprintf(progress->title, sizeof progress->title, "%s", title);
    snprintf(progress->unit, sizeof progress->unit, "%s", unit);
    progress->total = total;
    progress->started = dml_now();
    tell(progress, true, false);
}

void dml_progress_update(struct dml_progress *progress, size_t done) {
    progress->done = done < progress->total ? done : progress->total;
    if (dml_now() - progress->told >= 0.1)
        tell(progress, false, false);
}

void dml_progress_note(struct dml_progress *progress, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(progress->note, sizeof progress->note, format, arguments);
    va_end(arguments);
}

void dml_progress_end(struct dml_progress *progress) {
    tell(progress, false, true);
}
