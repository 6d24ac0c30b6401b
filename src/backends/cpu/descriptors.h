#ifndef DML_CPU_DESCRIPTORS_H
#define DML_CPU_DESCRIPTORS_H

#include <oneapi/dnnl/dnnl.h>

#include <stdbool.h>

/* What oneDNN 2.x and 3.x spell differently, and nothing else: memory descriptors are structs in
 * 2.x and opaque in 3.x, convolutions are described in two calls or in one, and some
 * post-operations take different arguments. Only this header and descriptors.c look at the version.
 * Functions return oneDNN's own status. */

#if DNNL_VERSION_MAJOR < 2 || (DNNL_VERSION_MAJOR == 2 && DNNL_VERSION_MINOR < 2)
#error "dml needs oneDNN 2.2 or newer (package libdnnl-dev)"
#endif

#if DNNL_VERSION_MAJOR < 3
typedef dnnl_memory_desc_t *cpu_md;
typedef const dnnl_memory_desc_t *cpu_const_md;
#else
typedef dnnl_memory_desc_t cpu_md;
typedef const_dnnl_memory_desc_t cpu_const_md;
#endif

/* Whether this version gets wrong what some convolutions add to their output: another tensor in
 * those of 1 x 1, and anything in bfloat16. 2.2 does, 2.5 was found not to. */
bool cpu_additions_are_wrong(void);

/* The caller destroys *out with cpu_md_destroy, which accepts NULL. */
dnnl_status_t cpu_md_create(cpu_md *out, int axes, const dnnl_dims_t dims, dnnl_data_type_t type,
                            dnnl_format_tag_t tag);
/* From the distance between neighbours along each axis, in elements. */
dnnl_status_t cpu_md_create_strided(cpu_md *out, int axes, const dnnl_dims_t dims,
                                    dnnl_data_type_t type, const dnnl_dims_t strides);
dnnl_status_t cpu_md_clone(cpu_md *out, cpu_const_md md);
void cpu_md_destroy(cpu_md md);

/* A blocked layout: the number of inner blocks and, from the outermost to the innermost, their
 * sizes and axes. The arrays belong to the descriptor. */
struct cpu_md_blocks {
    int count;
    const dnnl_dim_t *sizes, *axes;
    const dnnl_dim_t *strides, *dims, *padded_dims; /* by axis */
};
/* False where the layout is not blocked or does not begin at its first element. */
bool cpu_md_blocks(cpu_const_md md, struct cpu_md_blocks *out);

/* post: += what the output holds; += `tensor`; relu. */
dnnl_status_t cpu_post_add_output(dnnl_post_ops_t post);
dnnl_status_t cpu_post_add(dnnl_post_ops_t post, cpu_const_md tensor);
dnnl_status_t cpu_post_relu(dnnl_post_ops_t post);

/* A direct convolution. `bias` and `attributes` may be NULL. Borrows its descriptors. */
struct cpu_conv_description {
    cpu_const_md source, weights, bias, target;
    dnnl_dims_t strides, pad_left, pad_right;
};
dnnl_status_t cpu_conv_forward_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine, bool training,
                                  const struct cpu_conv_description *d,
                                  const_dnnl_primitive_attr_t attributes);
dnnl_status_t cpu_conv_data_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                               const struct cpu_conv_description *d,
                               const_dnnl_primitive_desc_t forward,
                               const_dnnl_primitive_attr_t attributes);
dnnl_status_t cpu_conv_weights_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                  const struct cpu_conv_description *d,
                                  const_dnnl_primitive_desc_t forward,
                                  const_dnnl_primitive_attr_t attributes);

/* c = a b. */
dnnl_status_t cpu_matmul_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine, cpu_const_md a,
                            cpu_const_md b, cpu_const_md c, const_dnnl_primitive_attr_t attributes);

#endif
