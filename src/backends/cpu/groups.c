#include "backends/cpu/groups.h"

#include <string.h>

static int groups_of(const struct cpu_conv_shape *shape) {
    return shape->groups > 1 ? shape->groups : 1;
}

int cpu_groups_joined(const struct cpu_conv_shape *shape) {
    int groups = groups_of(shape), block = shape->output.block;
    int inputs = shape->input.channels / groups, outputs = shape->output.channels / groups;
    if (groups == 1 || shape->input.block != block)
        return 1;
    for (int joined = 1; joined <= groups && joined <= block; joined++)
        if (groups % joined == 0 && joined * inputs % block == 0 && joined * outputs % block == 0)
            return joined;
    return 1;
}

int cpu_groups_computed(const struct cpu_conv_shape *shape) {
    return groups_of(shape) / cpu_groups_joined(shape);
}

/* Weights per output in one group: inputs and taps. */
static size_t row_of(const struct cpu_conv_shape *shape) {
    return (size_t)(shape->input.channels / groups_of(shape)) * (size_t)shape->kernel_h *
           (size_t)shape->kernel_w;
}

size_t cpu_groups_count(const struct cpu_conv_shape *shape) {
    return (size_t)shape->output.channels * (size_t)cpu_groups_joined(shape) * row_of(shape);
}

/* Where an output's own weights begin among the joined ones. */
static size_t place_of(const struct cpu_conv_shape *shape, size_t output) {
    size_t joined = (size_t)cpu_groups_joined(shape);
    size_t group = output / (size_t)(shape->output.channels / groups_of(shape));
    return (output * joined + group % joined) * row_of(shape);
}

void cpu_groups_join(const struct cpu_conv_shape *shape, const float *plain, float *joined) {
    size_t row = row_of(shape);
    memset(joined, 0, cpu_groups_count(shape) * sizeof *joined);
    for (size_t o = 0; o < (size_t)shape->output.channels; o++)
        memcpy(joined + place_of(shape, o), plain + o * row, row * sizeof *plain);
}

void cpu_groups_part(const struct cpu_conv_shape *shape, const float *joined, float *plain) {
    size_t row = row_of(shape);
    for (size_t o = 0; o < (size_t)shape->output.channels; o++)
        memcpy(plain + o * row, joined + place_of(shape, o), row * sizeof *plain);
}
