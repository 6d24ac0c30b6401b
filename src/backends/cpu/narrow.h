#ifndef DML_CPU_NARROW_H
#define DML_CPU_NARROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* target = source rounded to the nearest bfloat16, and back. */
void cpu_narrow(const float *source, size_t count, uint16_t *target);
void cpu_widen(const uint16_t *source, size_t count, float *target);

/* The same for a matrix (rows, columns) whose rows are `ld` floats apart, to one without gaps,
 * transposed or not. */
void cpu_narrow_matrix(const float *source, size_t rows, size_t columns, size_t ld, bool transpose,
                       uint16_t *target);

#endif
