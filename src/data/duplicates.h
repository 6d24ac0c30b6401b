#ifndef DML_DATA_DUPLICATES_H
#define DML_DATA_DUPLICATES_H

#include "data/dataset.h"

/* Images whose files (and boxes in them) are the same, byte by byte, in two parts of a data set:
 * reports each in the later part, with one of the earlier part; *count is how many there are. Files
 * that cannot be read are skipped. */
enum dml_status dml_duplicates_find(const struct dml_dataset *dataset,
                                    void (*tell)(void *data, const char *path, const char *earlier),
                                    void *data, size_t *count);

#endif
