#ifndef DML_PARAMS_INTERNAL_H
#define DML_PARAMS_INTERNAL_H

#include "dml/params.h"

/* What the files of this folder share. */

struct dml_param_group {
    const struct dml_param_table *table;
    char *options;
    bool *given; /* per parameter of the table */
};

struct dml_params {
    struct dml_param_group *groups;
    size_t count, capacity;
};

struct dml_param_place {
    struct dml_param_group *group;
    size_t index;
};

/* The parameter of exactly that name, or NULL; `place` may be NULL. */
const struct dml_param *dml_params_find(const struct dml_params *params, const char *name,
                                        struct dml_param_place *place);

/* Sets one parameter from texts, checking type, bounds and choices. */
enum dml_status dml_param_assign(const struct dml_param *param, void *options, size_t count,
                                 const char *const *values);

/* The parameter without bounds and choices: a default such as -1 may lie outside of what can be
 * typed, where it stands for "off". */
struct dml_param dml_param_unbounded(const struct dml_param *param);

/* "at least 0", "0 to 1", "above 0"; "" without bounds. */
void dml_param_bounds_text(const struct dml_param *param, char *out, size_t size);

/* A text split at blanks. */
struct dml_words {
    char *text, **items;
    size_t count;
};
enum dml_status dml_words_split(const char *text, struct dml_words *out);
void dml_words_free(struct dml_words *words);

#endif
