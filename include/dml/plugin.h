#ifndef DML_PLUGIN_H
#define DML_PLUGIN_H

#include "dml/backbones.h"
#include "dml/criteria.h"
#include "dml/metrics.h"
#include "dml/miners.h"
#include "dml/optimisers.h"
#include "dml/samplers.h"
#include "dml/schedules.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { DML_PLUGIN_STRUCTS = 13 };

/* Raised whenever a descriptor or a struct that methods see changes its layout. */
#define DML_PLUGIN_INTERFACE 6

/* What a shared object given with --plugin exports as the symbol `dml_plugin`. Lists end with
 * NULL; a list that is NULL is empty:
 *
 *     const struct dml_plugin dml_plugin = {DML_PLUGIN_BUILT, .criteria = criteria};
 */
struct dml_plugin {
    unsigned interface;                 /* DML_PLUGIN_INTERFACE when it was built */
    unsigned sizes[DML_PLUGIN_STRUCTS]; /* of what it and the program both see, in bytes */
    const struct dml_criterion *const *criteria;
    const struct dml_miner *const *miners;
    const struct dml_sampler *const *samplers;
    const struct dml_metric *const *metrics;
    const struct dml_optimiser *const *optimisers;
    const struct dml_schedule *const *schedules;
    const struct dml_backbone *const *backbones;
};

/* How a plugin begins, so that one built with other headers is refused, not misread. */
#define DML_PLUGIN_BUILT .interface = DML_PLUGIN_INTERFACE, .sizes = DML_PLUGIN_SIZES
#define DML_PLUGIN_SIZES                                                                           \
    {                                                                                              \
        sizeof(struct dml_plugin), sizeof(struct dml_method), sizeof(struct dml_param),            \
            sizeof(struct dml_param_table), sizeof(struct dml_criterion),                          \
            sizeof(struct dml_miner), sizeof(struct dml_sampler), sizeof(struct dml_metric),       \
            sizeof(struct dml_optimiser), sizeof(struct dml_schedule),                             \
            sizeof(struct dml_backbone), sizeof(struct dml_batch), sizeof(struct dml_tuples)       \
    }

/* Opens the shared object and registers its methods. It stays loaded until the program ends.
 * DML_ERROR_INPUT: not a shared object, no symbol `dml_plugin`, built with other headers, a name
 * that is taken. */
DML_API enum dml_status dml_plugin_load(const char *path);

/* Loads what the flags `--plugin FILE ...` and `--plugin=FILE` among these words name, each object
 * once however often it is named, even by other calls. */
DML_API enum dml_status dml_plugin_load_flags(int argc, char *const *argv);

#ifdef __cplusplus
}
#endif
#endif
