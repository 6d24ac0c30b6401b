#ifndef DML_CPU_CONV_WEIGHTS_H
#define DML_CPU_CONV_WEIGHTS_H

#include "backends/cpu/convolution.h"
#include "backends/cpu/onednn.h"

/* The part of weights that the convolution files read (convolution.h has the rest). */
struct cpu_weights {
    struct cpu_engine *engine;
    struct cpu_conv_shape shape;
    cpu_md md, plain; /* the layout they are kept in, and PyTorch's; groups joined */
    float *own;       /* where groups are joined: 1 for a group's own weights, else 0 */
    size_t count, inner;
    int block;
    size_t narrow_bytes; /* of the bfloat16 copy, 0 without one */
    /* Where oneDNN computes bfloat16: the copy's layout, and how it is made. Elsewhere the layout
     * is `md`. */
    cpu_md narrow_md;
    struct cpu_operation narrowing;
};

/* The layout that primitives read: that of the narrow copy for bfloat16 convolutions. */
static inline cpu_const_md cpu_weights_read_layout(const struct cpu_weights *weights,
                                                   const struct cpu_conv_shape *shape) {
    return shape->input.element == PLAN_BFLOAT16 ? weights->narrow_md : weights->md;
}

#endif
