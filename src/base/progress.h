#ifndef DML_BASE_PROGRESS_H
#define DML_BASE_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

/* Tells the listener (dml/messages.h) how far something has got: when it begins, at most ten times
 * a second, and when it ends. */
struct dml_progress {
    char title[64];
    char unit[16]; /* "images" */
    size_t total, done;
    char note[96]; /* "loss 0.312, best recall@1 0.55" */
    double started, told;
    bool quiet, brief; /* quiet: tells nothing */
};

void dml_progress_start(struct dml_progress *progress, const char *title, const char *unit,
                        size_t total);
void dml_progress_update(struct dml_progress *progress, size_t done);
void dml_progress_note(struct dml_progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void dml_progress_end(struct dml_progress *progress);

double dml_now(void); /* seconds of a monotonic clock */

#endif
