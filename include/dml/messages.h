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

/* How far something that takes long has got. */
struct dml_progress_report {
    const char *title; /* "epoch 3 of 40" */
    const char *unit;  /* "images" */
    const char *note;  /* "loss 0.312, best recall@1 0.55", or "" */
    size_t done, total;
    double seconds; /* since it began */
    bool first, last;
    bool brief; /* it takes only seconds: a log may leave it out */
};

/* Who hears what the library has to say besides failures (dml_error). Either function may be NULL.
 * They are called by one thread at a time, but maybe not always the same one, and must not call the
 * library. Strings last for the call. */
struct dml_listener {
    /* One line without a newline at its end; "" for an empty one. */
    void (*message)(void *data, enum dml_message_kind kind, const char *line);
    void (*progress)(void *data, const struct dml_progress_report *report);
    void *data;
    bool bold; /* lines may hold the escape sequences of a terminal for bold text */
};

/* Sets the listener of the process; NULL: none, as at the start, and nothing is printed ever. */
DML_API void dml_listen(const struct dml_listener *listener);

#ifdef __cplusplus
}
#endif
#endif
