#ifndef DML_TRAIN_UNDO_H
#define DML_TRAIN_UNDO_H

#include "train/experiment.h"

/* What a step changes before its end: running statistics of batch norm, and what criteria keep from
 * batch to batch. Rank 0, when it loses another in the middle of a step, goes back to the end of
 * the previous step, to save that. Elsewhere nothing is kept. */
struct dml_undo {
    float *statistics; /* of the parameters that do not learn, one after the other */
    char *buffers;     /* of the criteria, one after the other */
    bool open;
};

enum dml_status dml_undo_open(const struct dml_experiment *e, struct dml_undo *out);
void dml_undo_close(struct dml_undo *undo);

/* dml_undo_note is called before a step, dml_undo_back after one that did not finish. */
enum dml_status dml_undo_note(const struct dml_experiment *e, struct dml_undo *undo);
enum dml_status dml_undo_back(const struct dml_experiment *e, const struct dml_undo *undo);

#endif
