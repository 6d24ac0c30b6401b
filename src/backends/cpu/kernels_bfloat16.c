#include "base/half.h"

typedef uint16_t element;

static inline float load(element value) {
    return dml_bfloat16_value(value);
}
static inline element narrow(float value) {
    return dml_bfloat16_bits(value);
}

#define KERNELS cpu_kernels_bfloat16
#include "backends/cpu/kernels_body.h"
