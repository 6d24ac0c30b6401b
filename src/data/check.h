#ifndef DML_DATA_CHECK_H
#define DML_DATA_CHECK_H

#include "data/dataset.h"

/* Looks at the header of every image of all parts, on as many threads as there are processors.
 * DML_ERROR_INPUT or DML_ERROR_IO: the first image in the parts' order that cannot be used, and
 * how many others. */
enum dml_status dml_check_images(const struct dml_dataset *dataset);

/* The same, reporting each image that cannot be used, in no order and one at a time; *count is how
 * many there are. They are not a failure; a lack of memory is. */
enum dml_status dml_check_each(const struct dml_dataset *dataset,
                               void (*tell)(void *data, const char *message), void *data,
                               size_t *count);

#endif
