#ifndef DML_MATH_ABOVE_H
#define DML_MATH_ABOVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many of some values are above each of some levels, where both are known up to an error. */

enum {
    DML_ABOVE_VALUES = 1024, /* at most; counts stay within 16 bits */
    DML_ABOVE_LEVELS = 256,
    DML_ABOVE_ROOM = DML_ABOVE_VALUES + 16,
};

struct dml_above {
    _Alignas(64) float value[DML_ABOVE_ROOM]; /* the caller's, in any order */
    _Alignas(64) int16_t surely[DML_ABOVE_LEVELS], maybe[DML_ABOVE_LEVELS]; /* counts per level */
    /* its own */
    _Alignas(64) int32_t coarse[DML_ABOVE_ROOM];
    float level[DML_ABOVE_LEVELS];
    int16_t above[DML_ABOVE_LEVELS], below[DML_ABOVE_LEVELS];
};

/* Counts value[0..count) for level[0..levels), which descend. All values are at least the last
 * level minus the error. At least `surely` are above the level by more than the error, and at most
 * `maybe` are not below it by more than that: values are rounded to 16 bits between the levels.
 * Returns false if the two agree for every level. */
bool dml_count_above(struct dml_above *work, size_t count, const float *level, size_t levels,
                     float error);

#endif
