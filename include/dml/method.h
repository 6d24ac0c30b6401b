#ifndef DML_METHOD_H
#define DML_METHOD_H

#include "dml/error.h"
#include "dml/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Methods come in kinds. Every descriptor starts with a struct dml_method, so that lists,
 * help and the parser treat all kinds alike. */
enum dml_kind {
    DML_CRITERION,
    DML_MINER,
    DML_SAMPLER,
    DML_METRIC,
    DML_OPTIMISER,
    DML_SCHEDULE,
    DML_BACKBONE,
    DML_KIND_COUNT
};

struct dml_method {
    const char *name;                     /* as typed on the command line */
    const char *summary;                  /* one line */
    const char *paper;                    /* author, year, title; NULL when there is none */
    const struct dml_param_table *params; /* NULL when it has none */
};

/* Registries may be used from several threads at once. */

/* Adds a method of the user's own. It must outlive the program's use of it. DML_ERROR_INPUT: the
 * name is taken. */
DML_API enum dml_status dml_method_register(enum dml_kind kind, const struct dml_method *method);

/* The method called `name`, or NULL. */
DML_API const struct dml_method *dml_method_find(enum dml_kind kind, const char *name);

/* The i-th method, built-in ones first; NULL after the last. */
DML_API const struct dml_method *dml_method_at(enum dml_kind kind, size_t i);

/* "criterion", "batch miner", "batch sampler", "metric", "optimiser", "schedule", "backbone". */
DML_API const char *dml_kind_name(enum dml_kind kind);

/* The failure for an unknown name: lists the known ones and suggests the nearest. */
DML_API enum dml_status dml_method_unknown(enum dml_kind kind, const char *name);

#ifdef __cplusplus
}
#endif
#endif
