#ifndef DML_TRACKING_NAMES_H
#define DML_TRACKING_NAMES_H

#include "tracking/tracker.h"

/* How the study names what it logs. Its networks may give several embeddings; the only one here is
 * called "discriminative". */

enum { DML_NAME_SIZE = 128 };

/* The family of a metric: "e_recall" of "e_recall@1". Writes at most DML_NAME_SIZE bytes. */
void dml_metric_family(const char *metric, char family[DML_NAME_SIZE]);

/* "Test: discriminative_e_recall: e_recall@1", as W&B histories of the study call it. */
void dml_metric_online_name(const char *part, const char *metric, char name[DML_NAME_SIZE]);

/* The study has names of its own for some values of a step: "Model Grad", "L2" and "Grad L2" for
 * grad_rms. NULL for all others. */
struct dml_studys_name {
    const char *value, *part, *group, *column;
};
const struct dml_studys_name *dml_studys_name_of(const char *value);

/* A metric that is a vector rather than a number: the spectrum of rho_spectrum@0. */
static inline bool dml_metric_is_vector(const struct dml_metric_value *value) {
    return value->vector != NULL && value->vector_count > 0;
}

/* Calls `use` once per family with the numbers of that family, in the order of their first
 * appearance (vectors are left out); stops at the first failure. At most 64 of one family. */
enum { DML_FAMILY_MAX = 64 };
enum dml_status dml_metric_families(
    const struct dml_part_record *part,
    enum dml_status (*use)(void *data, const char *family,
                           const struct dml_metric_value *const *values, size_t count),
    void *data);

#endif
