#ifndef DML_CPU_ALIGN_H
#define DML_CPU_ALIGN_H

#include <stddef.h>

/* Sizes rounded up to multiples of 64 bytes, so that what follows stays aligned. */
enum { CPU_ALIGNMENT = 64 };

static inline size_t cpu_aligned_bytes(size_t bytes) {
    return (bytes + CPU_ALIGNMENT - 1) / CPU_ALIGNMENT * CPU_ALIGNMENT;
}
static inline size_t cpu_aligned_floats(size_t floats) {
    return cpu_aligned_bytes(floats * sizeof(float)) / sizeof(float);
}

#endif
