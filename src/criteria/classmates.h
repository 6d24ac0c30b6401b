#ifndef DML_CRITERIA_CLASSMATES_H
#define DML_CRITERIA_CLASSMATES_H

#include "dml/error.h"

#include <stddef.h>
#include <stdint.h>

/* Rings of the samples of one class: next[i] is the next one of i's label, and the samples of a
 * class follow each other until the first comes again, so that those beside i are
 *
 *     for (j = next[i]; j != i; j = next[j])
 *
 * `table` is workspace of dml_classmates_table(n) integers. */
size_t dml_classmates_table(size_t n);
void dml_classmates(const int32_t *labels, size_t n, uint32_t *table, uint32_t *next);

#endif
