#ifndef DML_BASE_SUGGEST_H
#define DML_BASE_SUGGEST_H

#include <stddef.h>

/* Finds the known word nearest to a misspelt one (edit distance, at most a third of its length). */
struct dml_suggestion {
    const char *wanted;
    const char *best; /* NULL while nothing is near */
    size_t distance;
};

struct dml_suggestion dml_suggestion_start(const char *wanted);
void dml_suggestion_offer(struct dml_suggestion *suggestion, const char *known);

#endif
