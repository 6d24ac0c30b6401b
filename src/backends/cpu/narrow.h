#ifndef DML_CPU_NARROW_H
#define DML_CPU_NARROW_H

#include <stddef.h>
#include <stdint.h>

/* target = source rounded to the nearest bfloat16, and back. */
void cpu_narrow(const float *source, size_t count, uint16_t *target);
void cpu_widen(const uint16_t *source, size_t count, float *target);

#endif
