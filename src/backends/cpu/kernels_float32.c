typedef float element;

static inline float load(element value) {
    return value;
}
static inline element narrow(float value) {
    return value;
}

#define KERNELS cpu_kernels_float32
#include "backends/cpu/kernels_body.h"
