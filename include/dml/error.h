#ifndef DML_ERROR_H
#define DML_ERROR_H

#include "dml/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a function that can fail returns. The message that goes with a failure names the file,
 * flag or value at fault; it is kept per thread and read with dml_error(). */
enum dml_status {
    DML_OK = 0,
    DML_ERROR_USAGE,       /* a wrong command line: unknown flag, value out of bounds */
    DML_ERROR_INPUT,       /* bad data: a file, an array, a label */
    DML_ERROR_IO,          /* the system refused: cannot open, disk full */
    DML_ERROR_MEMORY,      /* an allocation failed */
    DML_ERROR_NUMERIC,     /* a loss, gradient or embedding is not finite */
    DML_ERROR_UNSUPPORTED, /* this build or machine lacks what was asked for */
    DML_ERROR_INTERRUPTED, /* the user asked to stop */
};

/* The message of the last failure on this thread; "" when there was none.
 * Valid until the next failure on this thread. */
DML_API const char *dml_error(void);

/* Records a message (one line, no newline at its end) and returns `status`, so that a function
 * can end with `return dml_fail(DML_ERROR_INPUT, "%s: ...", path)`. */
DML_API enum dml_status dml_fail(enum dml_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before the message of the last failure and returns `status` unchanged. */
DML_API enum dml_status dml_fail_within(enum dml_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif
#endif
