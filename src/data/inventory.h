#ifndef DML_DATA_INVENTORY_H
#define DML_DATA_INVENTORY_H

#include "data/dataset.h"

/* What a data set is made of, so that a resumed run can tell whether it is still the same: UTF-8
 * text with a line per class, "part images sum name", where the sum is of the names (without
 * folders), sizes, marks, sequences and boxes of its images, in order. free() it. */
enum dml_status dml_inventory_make(const struct dml_dataset *dataset, char **out);

/* How one data set differs from another, as "training class 'heron' is gone (12 images); ... and 3
 * more"; free() it. NULL: not at all. */
enum dml_status dml_inventory_compare(const char *before, const char *now, char **changes);

#endif
