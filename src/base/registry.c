#include "dml/method.h"

#include "base/builtin.h"
#include "base/memory.h"
#include "base/suggest.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The registries: built-in methods, then those that plugins added. */
static const struct dml_method *const *const builtin[DML_KIND_COUNT] = {
    [DML_CRITERION] = dml_builtin_criteria,   [DML_MINER] = dml_builtin_miners,
    [DML_SAMPLER] = dml_builtin_samplers,     [DML_METRIC] = dml_builtin_metrics,
    [DML_OPTIMISER] = dml_builtin_optimisers, [DML_SCHEDULE] = dml_builtin_schedules,
    [DML_BACKBONE] = dml_builtin_backbones,
};

static struct {
    const struct dml_method **items;
    size_t count, capacity;
} added[DML_KIND_COUNT];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards `added` */

const char *dml_kind_name(enum dml_kind kind) {
    static const char *const names[] = {"criterion", "batch miner", "batch sampler", "metric",
                                        "optimiser", "schedule",    "backbone"};
    return names[kind];
}

/* For these two, the lock must be held. */
static const struct dml_method *at(enum dml_kind kind, size_t i) {
    size_t own = 0;
    while (builtin[kind] && builtin[kind][own])
        own++;
    if (i < own)
        return builtin[kind][i];
    return i - own < added[kind].count ? added[kind].items[i - own] : NULL;
}

static const struct dml_method *find(enum dml_kind kind, const char *name) {
    const struct dml_method *method;
    for (size_t i = 0; (method = at(kind, i)); i++)
        if (strcmp(method->name, name) == 0)
            return method;
    return NULL;
}

const struct dml_method *dml_method_at(enum dml_kind kind, size_t i) {
    pthread_mutex_lock(&lock);
    const struct dml_method *method = at(kind, i);
    pthread_mutex_unlock(&lock);
    return method;
}

const struct dml_method *dml_method_find(enum dml_kind kind, const char *name) {
    pthread_mutex_lock(&lock);
    const struct dml_method *method = find(kind, name);
    pthread_mutex_unlock(&lock);
    return method;
}

enum dml_status dml_method_register(enum dml_kind kind, const struct dml_method *method) {
    pthread_mutex_lock(&lock);
    enum dml_status status = find(kind, method->name)
                                 ? dml_fail(DML_ERROR_INPUT, "there is already a %s called '%s'",
                                            dml_kind_name(kind), method->name)
                                 : dml_grow(&added[kind].items, &added[kind].capacity,
                                            added[kind].count + 1, sizeof *added[kind].items);
    if (!status)
        added[kind].items[added[kind].count++] = method;
    pthread_mutex_unlock(&lock);
    return status;
}

enum dml_status dml_method_unknown(enum dml_kind kind, const char *name) {
    char known[1500] = "";
    size_t used = 0;
    struct dml_suggestion nearest = dml_suggestion_start(name);
    const struct dml_method *method;
    for (size_t i = 0; (method = dml_method_at(kind, i)) && used < sizeof known; i++) {
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                                 method->name);
        dml_suggestion_offer(&nearest, method->name);
    }
    return dml_fail(DML_ERROR_USAGE, "there is no %s '%s'%s%s%s; there are: %s",
                    dml_kind_name(kind), name, nearest.best ? ", did you mean '" : "",
                    nearest.best ? nearest.best : "", nearest.best ? "'?" : "", known);
}
