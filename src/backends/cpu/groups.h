#ifndef DML_CPU_GROUPS_H
#define DML_CPU_GROUPS_H

#include "backends/cpu/convolution.h"

/* Convolutions in groups. oneDNN is fast where each group has whole blocks of channels. Smaller
 * groups are joined: several side by side are computed as one, with weights of 0 between inputs and
 * outputs that belong to different ones. */

/* How many groups are computed as one; 1: each on its own. */
int cpu_groups_joined(const struct cpu_conv_shape *shape);

/* Number of groups that are computed, each made of joined ones. */
int cpu_groups_computed(const struct cpu_conv_shape *shape);

/* Elements of the weights that the computation uses, (out, joined * in / groups, kh, kw). */
size_t cpu_groups_count(const struct cpu_conv_shape *shape);

/* From PyTorch's weights (out, in / groups, kh, kw) to those, and back. */
void cpu_groups_join(const struct cpu_conv_shape *shape, const float *plain, float *joined);
void cpu_groups_part(const struct cpu_conv_shape *shape, const float *joined, float *plain);

#endif
