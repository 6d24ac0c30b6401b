#ifndef DML_PLUGIN_H
#define DML_PLUGIN_H

#include "dml/criteria.h"
#include "dml/metrics.h"
#include "dml/miners.h"
#include "dml/optimisers.h"
#include "dml/samplers.h"
#include "dml/schedules.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a descriptor or a struct that methods see changes its layout. */
#define DML_PLUGIN_INTERFACE 4

/* What a shared object given with --plugin exports as the symbol `dml_plugin`. Lists end with
 * NULL; a list that is NULL is empty. */
struct dml_plugin {
    unsigned interface; /* DML_PLUGIN_INTERFACE when it was built */
    const struct dml_criterion *const *criteria;
    const struct dml_miner *const *miners;
    const struct dml_sampler *const *samplers;
    const struct dml_metric *const *metrics;
    const struct dml_optimiser *const *optimisers;
    const struct dml_schedule *const *schedules;
};

/* Opens the shared object and registers its methods. It stays loaded until the program ends.
 * DML_ERROR_INPUT: not a shared object, no symbol `dml_plugin`, another interface version, a name
 * that is taken. */
DML_API enum dml_status dml_plugin_load(const char *path);

/* Loads what the flags `--plugin FILE ...` and `--plugin=FILE` among these words name, each object
 * once however often it is named, also by other calls. */
DML_API enum dml_status dml_plugin_load_flags(int argc, char *const *argv);

#ifdef __cplusplus
}
#endif
#endif
