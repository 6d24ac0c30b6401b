#ifndef DML_MESSAGES_H
#define DML_MESSAGES_H

#include "dml/api.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dml_message_kind {
    DML_MESSAGE_INFO,    /* what a run does and finds */
    DML_MESSAGE_WARNING, /* what the user may not expect, although the work continues */
};

/* How far a long task has got. */
struct dml_progress_report {
    const char *title; /* "epoch 3 of 40" */
    const char *unit;  /* "images" */
    const char *note;  /* "loss 0.312, best recall@1 0.55", or "" */
    size_t done, total;
    double seconds; /* since it began */
    bool first, last;
    bool brief; /* it takes only seconds: a log may leave it out */
};

/* Receives what the library reports besides failures (dml_error). Either function may be NULL. They
 * are called by one thread at a time, though not always the same one, and must not call the
 * library. Strings are valid during the call only. */
struct dml_listener {
    /* One line without a newline at its end; "" for an empty one. */
    void (*message)(void *data, enum dml_message_kind kind, const char *line);
    void (*progress)(void *data, const struct dml_progress_report *report);
    void *data;
    bool bold; /* lines may contain terminal escape sequences for bold text */
};

/* Sets the listener of the process; NULL: none, as initially; then nothing is ever printed. */
DML_API void dml_listen(const struct dml_listener *listener);

#ifdef __cplusplus
}
#endif
#endif
