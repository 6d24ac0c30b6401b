#ifndef DML_TRACKING_BEST_H
#define DML_TRACKING_BEST_H

#include "tracking/tracker.h"

/* The last and the best value of every metric of every part: what trackers show, and what writes
 * a checkpoint. */
struct dml_best {
    char part[24], metric[56];
    double last, best; /* best is NAN for a metric without an order, such as a distance */
    uint64_t epoch;    /* of the best */
};

struct dml_bests {
    struct dml_best *items;
    size_t count, capacity;
};

/* Takes one value in; *better: it is the best so far (dml_metric_better). */
enum dml_status dml_bests_take(struct dml_bests *bests, const char *part, const char *metric,
                               double value, uint64_t epoch, bool *better);
/* Puts back a best that is known already. */
enum dml_status dml_bests_restore_one(struct dml_bests *bests, const char *part, const char *metric,
                                      double value, uint64_t epoch);

/* Takes an epoch's results in. Vectors are left out, and metrics without an order have no best. */
enum dml_status dml_bests_update(struct dml_bests *bests, const struct dml_epoch_record *record);

/* NULL when it was never seen. */
const struct dml_best *dml_bests_find(const struct dml_bests *bests, const char *part,
                                      const char *metric);
void dml_bests_free(struct dml_bests *bests);

/* As JSON in a tracker's note, and back; nothing is taken from a broken note or one without
 * bests. */
bool dml_bests_note(const struct dml_bests *bests, struct cJSON *note);
enum dml_status dml_bests_restore(struct dml_bests *bests, const struct cJSON *note);

/* A number of a note, where null stands for what is not finite. False, as everywhere here: there
 * was no memory for it. */
bool dml_note_number(struct cJSON *note, const char *name, double value);
double dml_note_value(const struct cJSON *note, const char *name); /* NAN where there is none */

/* A count or a length of a note; 0 where there is none, or an impossible one. */
uint64_t dml_note_count(const struct cJSON *note, const char *name);

/* How a tracker's sync ends. */
enum dml_status dml_note_status(bool complete);

#endif
