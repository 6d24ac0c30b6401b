#ifndef DML_PARAMS_H
#define DML_PARAMS_H

#include "dml/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Every component declares its parameters in a table of these. The parser, --help, `dml list`,
 * the saved parameter file and docs/REFERENCE.md all come from the tables. */
enum dml_param_type {
    DML_PARAM_FLAG,    /* bool; on the command line it takes no value */
    DML_PARAM_INT,     /* int64_t */
    DML_PARAM_FLOAT,   /* double */
    DML_PARAM_STRING,  /* char *, never NULL */
    DML_PARAM_CHOICE,  /* an enum of int's size: the index of the text in `choices` */
    DML_PARAM_INTS,    /* struct dml_ints: one or more values after the flag */
    DML_PARAM_FLOATS,  /* struct dml_floats */
    DML_PARAM_STRINGS, /* struct dml_strings */
};

struct dml_ints {
    size_t count;
    int64_t *items;
};

struct dml_floats {
    size_t count;
    double *items;
};

struct dml_strings {
    size_t count;
    char **items;
};

/* Facts about a parameter, besides its type: bits of dml_param.facts. */
enum dml_param_fact {
    /* A run continued by --resume may have another value: where files are read and written, what is
     * measured and logged, how long and at what rate it learns. */
    DML_PARAM_MAY_CHANGE = 1,
    /* Another value is still the same experiment: runs that differ in nothing else count as one. */
    DML_PARAM_SAME_RUN = 2,
    /* Commands that embed images read it; it determines what they see of an image. */
    DML_PARAM_INFERENCE = 4,
    DML_PARAM_IMAGES = 8,
};

struct dml_param {
    const char *name; /* without the dashes */
    enum dml_param_type type;
    size_t offset;              /* of the field in the component's options struct */
    const char *fallback;       /* the default as typed on a command line, items of lists
                                   separated by blanks; NULL is "", an empty list, or off for
                                   a flag */
    double min, max;            /* bounds of numbers, inclusive; none where both are 0 */
    bool above_min;             /* min itself is out of bounds */
    const char *const *choices; /* NULL-terminated, or NULL: any text */
    const char *help;           /* one sentence */
    unsigned facts;             /* of enum dml_param_fact */
};

struct dml_param_table {
    const char *title; /* heading in --help: "Criterion: margin" */
    size_t options_size;
    const struct dml_param *params;
    size_t count;
    unsigned facts; /* that hold for all of them */
};

/* The table of the array `list`, whose parameters fill a `type`, with facts that hold for all. */
#define DML_PARAM_TABLE_OF(heading, type, list, of_all)                                            \
    {                                                                                              \
        .title = heading, .options_size = sizeof(type), .params = list,                            \
        .count = sizeof(list) / sizeof *(list), .facts = of_all                                    \
    }
#define DML_PARAM_TABLE(heading, type, list) DML_PARAM_TABLE_OF(heading, type, list, 0)

/* A set of tables, each with the options struct that its parameters fill. Owns both the structs
 * and the strings and lists in them. */
struct dml_params;

DML_API enum dml_status dml_params_new(struct dml_params **out);
DML_API void dml_params_free(struct dml_params *params);

/* Adds a table with its defaults; adding a table again changes nothing. Two tables may not
 * declare one name: DML_ERROR_USAGE. The table must outlive `params`. */
DML_API enum dml_status dml_params_add(struct dml_params *params,
                                       const struct dml_param_table *table);

/* The options struct of a table that was added; NULL when it was not (or is NULL). */
DML_API void *dml_params_options(const struct dml_params *params,
                                 const struct dml_param_table *table);

/* Reads flags: `--name value`, `--name=value`, `--name v1 v2` for lists, unambiguous prefixes.
 * DML_ERROR_USAGE names an unknown flag (and the nearest known one), a missing or malformed
 * value, or a value out of its bounds. */
DML_API enum dml_status dml_params_parse(struct dml_params *params, int argc, char *const *argv);

/* The same from one text, split at blanks: "--loss_margin_beta 0.6 --loss_margin_nu 0.01". */
DML_API enum dml_status dml_params_parse_text(struct dml_params *params, const char *text);

/* Makes a text empty, as if its flag said so, which a command line may not where no value means
 * that there is none. */
DML_API enum dml_status dml_params_clear(struct dml_params *params, const char *name);

/* Whether the parameter was set by a command line or file rather than by its default. */
DML_API bool dml_params_given(const struct dml_params *params, const char *name);

/* Facts about a parameter, its table's included; 0 for one that is not there. */
DML_API unsigned dml_params_facts(const struct dml_params *params, const char *name);

/* Copies the parameters of a table that have the fact to `out`, at most `capacity` of them; returns
 * how many. */
DML_API size_t dml_param_table_select(const struct dml_param_table *table, unsigned fact,
                                      struct dml_param *out, size_t capacity);

/* Tables with their flags, defaults and bounds, as --help shows them. */
DML_API void dml_params_help(const struct dml_params *params, FILE *out);
DML_API void dml_param_table_help(const struct dml_param_table *table, FILE *out);

#ifdef __cplusplus
}
#endif
#endif
