#ifndef DML_CLI_STARVED_H
#define DML_CLI_STARVED_H

/* Compute libraries do not report a lack of memory or threads: OpenBLAS asks forever, C++ ends with
 * a signal, OpenMP exits. From here on each of these ends command `name` with a line that says so
 * and exit status 1. */
void dml_starved_begin(const char *name);

/* From here on the program ends in its own way. */
void dml_starved_end(void);

/* What a user can do about a lack of memory in command `name`: a clause for the end of a message,
 * "" where there is nothing to say. It allocates nothing; valid until the next call. */
const char *dml_starved_advice(const char *name);

#endif
