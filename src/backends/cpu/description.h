#ifndef DML_CPU_DESCRIPTION_H
#define DML_CPU_DESCRIPTION_H

#include "backends/cpu/convolution.h"
#include "backends/cpu/onednn.h"

/* A convolution as oneDNN sees it: memory descriptors of its tensors, and its geometry. */
struct cpu_description {
    cpu_md source, weights, bias, target;
    struct cpu_conv_description geometry; /* borrows the descriptors */
};

dnnl_data_type_t cpu_data_type(enum plan_element element);

/* A layout of weights: (out, in, kh, kw), or with groups (groups, out, in, kh, kw). */
enum dml_status cpu_weights_md(const struct cpu_conv_shape *shape, dnnl_data_type_t type, bool any,
                               cpu_md *md);

/* `weights` NULL: any layout, of `type`. Biases are float32. The caller zeroes `d` before and calls
 * cpu_undescribe after, whatever is returned. */
enum dml_status cpu_describe(const struct cpu_conv_shape *shape, cpu_const_md weights,
                             dnnl_data_type_t type, struct cpu_description *d);
void cpu_undescribe(struct cpu_description *d);

/* The forward pass, residual and relu included. */
enum dml_status cpu_describe_forward(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                     const struct cpu_description *d, dnnl_primitive_desc_t *out);

/* Backward data with any layout of weights, or backward weights with any layout of the gradient,
 * which is float32. */
enum dml_status cpu_describe_backward(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                      bool data, const_dnnl_primitive_desc_t forward,
                                      dnnl_primitive_desc_t *out);

#endif
