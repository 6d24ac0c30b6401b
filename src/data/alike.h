#ifndef DML_DATA_ALIKE_H
#define DML_DATA_ALIKE_H

#include "data/dataset.h"

/* What a part seems to have twice; texts are the part's. */
struct dml_alike {
    size_t count;
    const char *first, *second; /* of one such pair; NULL: there is none */
};

/* Classes whose names differ in the case of letters, accents or how they are written (precomposed
 * or not), blanks around them or leading zeros alone. */
enum dml_status dml_classes_alike(const struct dml_part *part, struct dml_alike *out);

/* Images that are listed more than once: the same box of the same path. */
enum dml_status dml_images_twice(const struct dml_part *part, struct dml_alike *out);

#endif
