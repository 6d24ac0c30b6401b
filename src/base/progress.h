#ifndef DML_BASE_PROGRESS_H
#define DML_BASE_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

/* A progress bar with rate and time left on a terminal; plain lines, at most one in ten seconds
 * and one at the end, elsewhere. Written to stderr. */
struct dml_progress {
    char title[64];
    char unit[16]; /* "images" */
    size_t total, done;
    char note[96]; /* "loss 0.312, best recall@1 0.55": shown behind the bar */
    double started, shown;
    bool terminal, quiet;
};

void dml_progress_start(struct dml_progress *progress, const char *title, const char *unit,
                        size_t total);
void dml_progress_update(struct dml_progress *progress, size_t done);
void dml_progress_note(struct dml_progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void dml_progress_end(struct dml_progress *progress);

double dml_now(void); /* seconds of a monotonic clock */

#endif
