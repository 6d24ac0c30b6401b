#ifndef DML_DATA_DOUBTS_H
#define DML_DATA_DOUBTS_H

#include "data/dataset.h"

/* Warns, in one line, about what is hardly intended in a data set: one class in a part, thousands
 * of images in each of few classes, no class with two images, classes that both train and test. And
 * about what is there twice: images, and classes with names that are nearly the same. */
void dml_dataset_doubts(const struct dml_dataset *dataset);

/* How many classes two parts have in common, by name; *first is one of them. */
enum dml_status dml_parts_shared(const struct dml_part *a, const struct dml_part *b, size_t *count,
                                 const char **first);

#endif
