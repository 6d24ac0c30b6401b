#ifndef DML_TRACKING_BEST_H
#define DML_TRACKING_BEST_H

#include "tracking/tracker.h"

/* The last and the best value of every metric of every part. */
struct dml_best {
    char part[24], metric[56];
    double last, best; /* best is NAN for a metric without an order, such as a distance */
    uint64_t epoch;    /* of the best */
};

struct dml_bests {
    struct dml_best *items;
    size_t count, capacity;
};

/* Takes an epoch's results in. Vectors are left out, and values that are not finite never become
 * the best. */
enum dml_status dml_bests_update(struct dml_bests *bests, const struct dml_epoch_record *record);

/* NULL when it was never seen. */
const struct dml_best *dml_bests_find(const struct dml_bests *bests, const char *part,
                                      const char *metric);
void dml_bests_free(struct dml_bests *bests);

/* Reads the bests of an earlier part of the same run from the run's summary.json, so that a run
 * taken up again remembers them. Without such a file, or with a broken one, nothing is read. */
void dml_bests_load(struct dml_bests *bests, const char *folder);

/* Forgets bests of epoch `epoch` and later: they are about to be measured again. */
void dml_bests_forget(struct dml_bests *bests, uint64_t epoch);

#endif
