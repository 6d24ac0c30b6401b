#ifndef DML_CLI_PER_QUERY_H
#define DML_CLI_PER_QUERY_H

#include "dml/metrics.h"

/* What queries are called. */
struct dml_query_names {
    char *const *paths;         /* (n), or NULL */
    const __int128 *own_labels; /* (n): labels that int32 cannot hold; or NULL: the set's labels */
};

/* Writes what ranks say about single queries, one a row. FILE.csv has a header line and the columns
 * query (number of the sample), path where there are paths, label, positives, first_hit, AP, AP@R
 * and r_precision, the last four again by cosine, with c_ before their names; values that a query
 * without positives lacks are empty. FILE.npy has the same as float64 (queries, columns), without
 * paths and with NaN. */
enum dml_status dml_per_query_write(const char *path, const struct dml_per_query *per_query,
                                    const int32_t *labels, const struct dml_query_names *names);

/* DML_ERROR_USAGE: another ending. Also fails if the file cannot be written. */
enum dml_status dml_per_query_check(const char *path);

#endif
