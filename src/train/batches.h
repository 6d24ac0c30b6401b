#ifndef DML_TRAIN_BATCHES_H
#define DML_TRAIN_BATCHES_H

#include "train/experiment.h"

/* Warns if hardly any image of the planned batches has a positive in its batch (--samples_per_class
 * 1 with many classes), and if hardly any has a negative (--samples_per_class as large as --bs),
 * where the criterion compares the images of a batch with each other: its loss would silently be 0,
 * or nearly. plan: (batches, --bs) training images. */
enum dml_status dml_batches_warn(const struct dml_experiment *experiment, const uint32_t *plan,
                                 size_t batches);

#endif
