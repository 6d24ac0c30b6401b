#ifndef DML_BASE_STREAM_H
#define DML_BASE_STREAM_H

#include "dml/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* A text that grows as it is written, like that of open_memstream, which silently loses what does
 * not fit into memory. */
struct dml_stream {
    FILE *file; /* write here */
    char *text;
    size_t size, capacity;
    bool failed;
};

/* `stream` must stay where it is until it is closed. */
enum dml_status dml_stream_open(struct dml_stream *stream);

/* The whole text, to be freed with free(), or DML_ERROR_MEMORY and *out NULL when any of it was
 * lost. */
enum dml_status dml_stream_close(struct dml_stream *stream, char **out);

#endif
