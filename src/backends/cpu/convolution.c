#include "backends/cpu/convolution.h"

#include "backends/cpu/taps.h"
#include "base/memory.h"

#include <oneapi/dnnl/dnnl.h>

#include <stdlib.h>
#include <string.h>

/* Written for oneDNN 2.x. In 3.x operation descriptors are gone (dnnl_convolution_*_desc_init and
 * dnnl_primitive_desc_create become one call each) and memory descriptors are opaque pointers:
 * describe(), the three make_* functions and the accessors of struct cpu_weights are what would
 * get a second variant. */
#if DNNL_VERSION_MAJOR != 2
#error "src/backends/cpu/convolution.c is written for oneDNN 2.x"
#endif

static enum dml_status check(dnnl_status_t status, const char *what) {
    if (status == dnnl_success)
        return DML_OK;
    if (status == dnnl_out_of_memory)
        return dml_fail(DML_ERROR_MEMORY, "oneDNN: %s: out of memory", what);
    return dml_fail(DML_ERROR_UNSUPPORTED, "oneDNN: %s: status %d", what, (int)status);
}

#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum dml_status try_status = (call);                                                       \
        if (try_status != DML_OK)                                                                  \
            return try_status;                                                                     \
    } while (0)

struct cpu_engine {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

enum dml_status cpu_engine_create(struct cpu_engine **out) {
    struct cpu_engine *engine = *out = dml_alloc(1, sizeof *engine);
    if (!engine)
        return DML_ERROR_MEMORY;
    TRY(check(dnnl_engine_create(&engine->engine, dnnl_cpu, 0), "engine"));
    return check(dnnl_stream_create(&engine->stream, engine->engine, dnnl_stream_default_flags),
                 "stream");
}

void cpu_engine_destroy(struct cpu_engine *engine) {
    if (!engine)
        return;
    if (engine->stream)
        dnnl_stream_destroy(engine->stream);
    if (engine->engine)
        dnnl_engine_destroy(engine->engine);
    free(engine);
}

/* oneDNN numbers instruction sets by bits, each set holding those of the sets it includes. */
static bool has_isa(dnnl_cpu_isa_t isa) {
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)isa) == (unsigned)isa;
}

int cpu_engine_block(void) {
    return has_isa(dnnl_cpu_isa_avx512_core) ? 16 : 8;
}

bool cpu_engine_has_bf16(void) {
    return has_isa(dnnl_cpu_isa_avx512_core_bf16);
}

/* A primitive with a memory object for each argument; their handles are set at each run. */
enum { MOST_ARGUMENTS = 8 };
struct operation {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arguments[MOST_ARGUMENTS];
    int count;
    size_t scratch; /* bytes */
};

static void operation_destroy(struct operation *operation) {
    for (int i = 0; i < operation->count; i++)
        dnnl_memory_destroy(operation->arguments[i].memory);
    if (operation->primitive)
        dnnl_primitive_destroy(operation->primitive);
}

static enum dml_status add_argument(struct operation *operation, struct cpu_engine *engine,
                                    int argument, const dnnl_memory_desc_t *md) {
    dnnl_memory_t memory;
    TRY(check(dnnl_memory_create(&memory, md, engine->engine, DNNL_MEMORY_NONE), "memory"));
    operation->arguments[operation->count++] = (dnnl_exec_arg_t){argument, memory};
    return DML_OK;
}

/* Makes the primitive of `pd` with the given arguments (ended by 0) and room for scratch. */
static enum dml_status operation_create(struct operation *operation, struct cpu_engine *engine,
                                        const_dnnl_primitive_desc_t pd, const int *arguments,
                                        const dnnl_memory_desc_t *const *mds) {
    for (int i = 0; arguments[i]; i++)
        TRY(add_argument(operation, engine, arguments[i], mds[i]));
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    operation->scratch = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    if (operation->scratch)
        TRY(add_argument(operation, engine, DNNL_ARG_SCRATCHPAD, scratch));
    return check(dnnl_primitive_create(&operation->primitive, pd), "primitive");
}

/* `handles` in the order of the arguments; scratch behind them. */
static enum dml_status run(struct cpu_engine *engine, struct operation *operation,
                           const void *const *handles, void *scratch) {
    for (int i = 0; i < operation->count; i++) {
        bool is_scratch = operation->arguments[i].arg == DNNL_ARG_SCRATCHPAD;
        void *handle = is_scratch ? scratch : (void *)handles[i];
        TRY(check(dnnl_memory_set_data_handle(operation->arguments[i].memory, handle), "memory"));
    }
    TRY(check(dnnl_primitive_execute(operation->primitive, engine->stream, operation->count,
                                     operation->arguments),
              "execution"));
    return check(dnnl_stream_wait(engine->stream), "execution");
}

/* Runs one reorder between two layouts, made for this one use. */
static enum dml_status reorder_once(struct cpu_engine *engine, const dnnl_memory_desc_t *from,
                                    const void *source, const dnnl_memory_desc_t *to,
                                    void *target) {
    struct operation reorder = {0};
    dnnl_primitive_desc_t pd = NULL;
    enum dml_status status = check(
        dnnl_reorder_primitive_desc_create(&pd, from, engine->engine, to, engine->engine, NULL),
        "reorder");
    if (status == DML_OK)
        status = operation_create(&reorder, engine, pd, (int[]){DNNL_ARG_FROM, DNNL_ARG_TO, 0},
                                  (const dnnl_memory_desc_t *[]){from, to});
    if (status == DML_OK)
        status = run(engine, &reorder, (const void *[]){source, target}, NULL);
    operation_destroy(&reorder);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    return status;
}

/* Memory descriptors and geometry of a convolution, in oneDNN's terms. */
struct description {
    dnnl_memory_desc_t source, weights, bias, target;
    dnnl_dims_t strides, pad_left, pad_right;
};

static enum dml_status tensor_md(dnnl_memory_desc_t *md, const struct cpu_layout *layout,
                                 size_t n) {
    dnnl_dims_t dims = {(dnnl_dim_t)n, layout->channels, layout->height, layout->width};
    dnnl_format_tag_t tag = layout->block == 16  ? dnnl_nChw16c
                            : layout->block == 8 ? dnnl_nChw8c
                                                 : dnnl_nchw;
    return check(dnnl_memory_desc_init_by_tag(md, 4, dims, dnnl_f32, tag), "tensor layout");
}

static dnnl_dim_t padding_right(int size, int windows, int kernel, int stride, int pad) {
    return (windows - 1) * stride + kernel - size - pad;
}

/* `weights` NULL: any layout. */
static enum dml_status describe(const struct cpu_conv_shape *shape,
                                const dnnl_memory_desc_t *weights, struct description *d) {
    *d = (struct description){0};
    TRY(tensor_md(&d->source, &shape->input, shape->n));
    TRY(tensor_md(&d->target, &shape->output, shape->n));
    dnnl_dims_t weight_dims = {shape->output.channels, shape->input.channels, shape->kernel_h,
                               shape->kernel_w};
    if (weights)
        d->weights = *weights;
    else
        TRY(check(dnnl_memory_desc_init_by_tag(&d->weights, 4, weight_dims, dnnl_f32,
                                               dnnl_format_tag_any),
                  "weights"));
    if (shape->bias)
        TRY(check(dnnl_memory_desc_init_by_tag(&d->bias, 1, weight_dims, dnnl_f32, dnnl_a),
                  "bias"));
    d->strides[0] = shape->stride_h;
    d->strides[1] = shape->stride_w;
    d->pad_left[0] = shape->pad_h;
    d->pad_left[1] = shape->pad_w;
    d->pad_right[0] = padding_right(shape->input.height, shape->output.height, shape->kernel_h,
                                    shape->stride_h, shape->pad_h);
    d->pad_right[1] = padding_right(shape->input.width, shape->output.width, shape->kernel_w,
                                    shape->stride_w, shape->pad_w);
    return DML_OK;
}

/* Post-operations (residual, relu) and scratch memory that the caller provides. */
static enum dml_status make_attributes(const struct cpu_conv_shape *shape,
                                       const dnnl_memory_desc_t *target,
                                       dnnl_primitive_attr_t *out) {
    TRY(check(dnnl_primitive_attr_create(out), "attributes"));
    TRY(check(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user),
              "scratchpad"));
    dnnl_post_ops_t post;
    TRY(check(dnnl_post_ops_create(&post), "post-operations"));
    dnnl_status_t status = dnnl_success;
    if (shape->residual == CPU_RESIDUAL_IN_PLACE)
        status = dnnl_post_ops_append_sum(post, 1.0f);
    else if (shape->residual == CPU_RESIDUAL_SEPARATE)
        status = dnnl_post_ops_append_binary(post, dnnl_binary_add, target);
    if (status == dnnl_success && shape->relu)
        status = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(*out, post);
    dnnl_post_ops_destroy(post);
    return check(status, "post-operations");
}

static enum dml_status make_forward(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                    const struct description *d, dnnl_primitive_desc_t *out) {
    dnnl_convolution_desc_t desc;
    TRY(check(dnnl_convolution_forward_desc_init(
                  &desc, shape->training ? dnnl_forward_training : dnnl_forward_inference,
                  dnnl_convolution_direct, &d->source, &d->weights, shape->bias ? &d->bias : NULL,
                  &d->target, d->strides, d->pad_left, d->pad_right),
              "convolution"));
    dnnl_primitive_attr_t attributes = NULL;
    enum dml_status status = make_attributes(shape, &d->target, &attributes);
    if (status == DML_OK)
        status = check(dnnl_primitive_desc_create(out, &desc, attributes, engine->engine, NULL),
                       "convolution");
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    return status;
}

/* Backward data with `weights` NULL for bias and with any layout of weights, or backward weights
 * with any layout of the gradient. */
static enum dml_status make_backward(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                     bool data, const_dnnl_primitive_desc_t forward,
                                     dnnl_primitive_desc_t *out) {
    struct description d;
    TRY(describe(shape, NULL, &d));
    dnnl_convolution_desc_t desc;
    dnnl_status_t made =
        data ? dnnl_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &d.source,
                                                        &d.weights, &d.target, d.strides,
                                                        d.pad_left, d.pad_right)
             : dnnl_convolution_backward_weights_desc_init(
                   &desc, dnnl_convolution_direct, &d.source, &d.weights,
                   shape->bias ? &d.bias : NULL, &d.target, d.strides, d.pad_left, d.pad_right);
    TRY(check(made, "convolution gradient"));
    dnnl_primitive_attr_t attributes = NULL;
    TRY(check(dnnl_primitive_attr_create(&attributes), "attributes"));
    dnnl_status_t status =
        dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(out, &desc, attributes, engine->engine, forward);
    dnnl_primitive_attr_destroy(attributes);
    return check(status, "convolution gradient");
}

struct cpu_weights {
    struct cpu_engine *engine;
    dnnl_memory_desc_t md, plain;
    size_t count, inner;
    int block;
};

/* True where outputs are the outermost axis and the innermost block: the layouts that the
 * per-output scaling of folded batch norms can walk. */
static bool outputs_in_blocks(const dnnl_memory_desc_t *md, size_t count, int *block,
                              size_t *inner) {
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    if (md->format_kind != dnnl_blocked || md->offset0 != 0)
        return false;
    int last = b->inner_nblks - 1, output_blocks = 0;
    for (int i = 0; i < b->inner_nblks; i++)
        output_blocks += b->inner_idxs[i] == 0;
    if (output_blocks > 1 || (output_blocks == 1 && b->inner_idxs[last] != 0))
        return false;
    *block = output_blocks ? (int)b->inner_blks[last] : 1;
    size_t stride = (size_t)b->strides[0];
    if (stride * (size_t)(md->padded_dims[0] / *block) != count)
        return false;
    *inner = stride / (size_t)*block;
    return true;
}

enum dml_status cpu_weights_create(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                   struct cpu_weights **out) {
    struct cpu_weights *weights = *out = dml_alloc(1, sizeof *weights);
    if (!weights)
        return DML_ERROR_MEMORY;
    weights->engine = engine;
    struct description d;
    TRY(describe(shape, NULL, &d));
    dnnl_primitive_desc_t pd = NULL;
    TRY(make_forward(engine, shape, &d, &pd));
    weights->md = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    dnnl_primitive_desc_destroy(pd);
    TRY(check(dnnl_memory_desc_init_by_tag(&weights->plain, 4, d.weights.dims, dnnl_f32, dnnl_oihw),
              "weights"));
    weights->count = dnnl_memory_desc_get_size(&weights->md) / sizeof(float);
    if (!outputs_in_blocks(&weights->md, weights->count, &weights->block, &weights->inner)) {
        weights->md = weights->plain;
        weights->count = dnnl_memory_desc_get_size(&weights->md) / sizeof(float);
        outputs_in_blocks(&weights->md, weights->count, &weights->block, &weights->inner);
    }
    return DML_OK;
}

void cpu_weights_destroy(struct cpu_weights *weights) {
    free(weights);
}

size_t cpu_weights_count(const struct cpu_weights *weights) {
    return weights->count;
}

int cpu_weights_block(const struct cpu_weights *weights) {
    return weights->block;
}

size_t cpu_weights_inner(const struct cpu_weights *weights) {
    return weights->inner;
}

enum dml_status cpu_weights_from_plain(const struct cpu_weights *weights, const float *plain,
                                       float *values) {
    return reorder_once(weights->engine, &weights->plain, plain, &weights->md, values);
}

enum dml_status cpu_weights_to_plain(const struct cpu_weights *weights, const float *values,
                                     float *plain) {
    return reorder_once(weights->engine, &weights->md, values, &weights->plain, plain);
}

struct cpu_conv {
    struct cpu_engine *engine;
    struct cpu_conv_shape shape;
    const struct cpu_weights *weights;
    struct operation forward, data, gradient;
    /* Where a backward function wants the weights otherwise than they are kept: */
    struct operation data_reorder, gradient_reorder;
    size_t data_weights, gradient_weights; /* bytes of the copy, 0 without one */
    /* Computed by taps.h instead: all of it, or the weight gradient alone where oneDNN has no
     * fast one. */
    bool by_taps, gradient_by_taps;
    struct cpu_tap_strides tap_strides;
};

static size_t rounded(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

static enum dml_status make_reorder(struct cpu_engine *engine, const dnnl_memory_desc_t *from,
                                    const dnnl_memory_desc_t *to, struct operation *out) {
    dnnl_primitive_desc_t pd;
    TRY(check(
        dnnl_reorder_primitive_desc_create(&pd, from, engine->engine, to, engine->engine, NULL),
        "reorder"));
    enum dml_status status =
        operation_create(out, engine, pd, (int[]){DNNL_ARG_FROM, DNNL_ARG_TO, 0},
                         (const dnnl_memory_desc_t *[]){from, to});
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static enum dml_status create_data(struct cpu_conv *conv, const struct description *d,
                                   const_dnnl_primitive_desc_t forward) {
    dnnl_primitive_desc_t pd;
    TRY(make_backward(conv->engine, &conv->shape, true, forward, &pd));
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    enum dml_status status =
        operation_create(&conv->data, conv->engine, pd,
                         (int[]){DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC, 0},
                         (const dnnl_memory_desc_t *[]){&d->target, md, &d->source});
    if (status == DML_OK && !dnnl_memory_desc_equal(md, &conv->weights->md)) {
        conv->data_weights = rounded(dnnl_memory_desc_get_size(md));
        status = make_reorder(conv->engine, &conv->weights->md, md, &conv->data_reorder);
    }
    dnnl_primitive_desc_destroy(pd);
    return status;
}

/* Whether the implementation is oneDNN's unoptimised one. */
static bool is_reference(const_dnnl_primitive_desc_t pd) {
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    return !strncmp(name, "ref", 3);
}

/* Strides of the kept weights where they are in (input, output) blocks as cpu_taps_* walks them. */
static bool tap_strides(const dnnl_memory_desc_t *md, struct cpu_tap_strides *out) {
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    if (b->inner_nblks != 2 || b->inner_idxs[0] != 1 || b->inner_idxs[1] != 0 ||
        b->inner_blks[0] != b->inner_blks[1])
        return false;
    *out = (struct cpu_tap_strides){.block = (int)b->inner_blks[0],
                                    .output = (size_t)b->strides[0],
                                    .input = (size_t)b->strides[1],
                                    .row = (size_t)b->strides[2],
                                    .column = (size_t)b->strides[3]};
    return true;
}

static bool taps_possible(struct cpu_conv *conv) {
    return tap_strides(&conv->weights->md, &conv->tap_strides) &&
           conv->tap_strides.block == conv->shape.input.block &&
           conv->tap_strides.block == conv->shape.output.block;
}

static enum dml_status create_gradient(struct cpu_conv *conv, const struct description *d,
                                       const_dnnl_primitive_desc_t forward) {
    dnnl_primitive_desc_t pd;
    TRY(make_backward(conv->engine, &conv->shape, false, forward, &pd));
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_diff_weights_md, 0);
    enum dml_status status = DML_OK;
    conv->gradient_by_taps = is_reference(pd) && taps_possible(conv);
    if (!conv->gradient_by_taps) {
        status =
            operation_create(&conv->gradient, conv->engine, pd,
                             (int[]){DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS,
                                     conv->shape.bias ? DNNL_ARG_DIFF_BIAS : 0, 0},
                             (const dnnl_memory_desc_t *[]){&d->source, &d->target, md, &d->bias});
        if (status == DML_OK && !dnnl_memory_desc_equal(md, &conv->weights->md)) {
            conv->gradient_weights = rounded(dnnl_memory_desc_get_size(md));
            status = make_reorder(conv->engine, md, &conv->weights->md, &conv->gradient_reorder);
        }
    }
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static enum dml_status create_all(struct cpu_conv *conv) {
    struct description d;
    TRY(describe(&conv->shape, &conv->weights->md, &d));
    dnnl_primitive_desc_t pd;
    TRY(make_forward(conv->engine, &conv->shape, &d, &pd));
    /* Bias and residual are both optional, in this order. */
    int arguments[6] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    const dnnl_memory_desc_t *mds[6] = {&d.source, &conv->weights->md, &d.target};
    int count = 3;
    if (conv->shape.bias) {
        mds[count] = &d.bias;
        arguments[count++] = DNNL_ARG_BIAS;
    }
    if (conv->shape.residual == CPU_RESIDUAL_SEPARATE) {
        mds[count] = &d.target;
        arguments[count++] = DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1;
    }
    enum dml_status status = operation_create(&conv->forward, conv->engine, pd, arguments, mds);
    if (status == DML_OK && conv->shape.training)
        status = create_gradient(conv, &d, pd);
    if (status == DML_OK && conv->shape.input_gradient)
        status = create_data(conv, &d, pd);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

enum dml_status cpu_conv_create(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                const struct cpu_weights *weights, struct cpu_conv **out) {
    struct cpu_conv *conv = *out = dml_alloc(1, sizeof *conv);
    if (!conv)
        return DML_ERROR_MEMORY;
    conv->engine = engine;
    conv->shape = *shape;
    conv->weights = weights;
    conv->by_taps = conv->gradient_by_taps = cpu_taps_preferred(shape) && taps_possible(conv);
    return conv->by_taps ? DML_OK : create_all(conv);
}

void cpu_conv_destroy(struct cpu_conv *conv) {
    if (!conv)
        return;
    operation_destroy(&conv->forward);
    operation_destroy(&conv->data);
    operation_destroy(&conv->gradient);
    operation_destroy(&conv->data_reorder);
    operation_destroy(&conv->gradient_reorder);
    free(conv);
}

size_t cpu_conv_forward_scratch(const struct cpu_conv *conv) {
    return conv->by_taps ? cpu_taps_scratch(&conv->shape) : conv->forward.scratch;
}

size_t cpu_conv_data_scratch(const struct cpu_conv *conv) {
    return conv->by_taps ? cpu_taps_scratch(&conv->shape) : conv->data_weights + conv->data.scratch;
}

size_t cpu_conv_weights_scratch(const struct cpu_conv *conv) {
    return conv->gradient_by_taps ? cpu_taps_scratch(&conv->shape)
                                  : conv->gradient_weights + conv->gradient.scratch;
}

enum dml_status cpu_conv_forward(struct cpu_conv *conv, const float *input, const float *weights,
                                 const float *bias, const float *residual, float *output,
                                 void *scratch) {
    if (conv->by_taps) {
        cpu_taps_forward(&conv->shape, &conv->tap_strides, input, weights, bias, residual, output,
                         scratch);
        return DML_OK;
    }
    const void *handles[MOST_ARGUMENTS] = {input, weights, output};
    int count = 3;
    if (conv->shape.bias)
        handles[count++] = bias;
    if (conv->shape.residual == CPU_RESIDUAL_SEPARATE)
        handles[count++] = residual;
    return run(conv->engine, &conv->forward, handles, scratch);
}

enum dml_status cpu_conv_backward_data(struct cpu_conv *conv, const float *grad_output,
                                       const float *weights, float *grad_input, void *scratch) {
    if (conv->by_taps) {
        cpu_taps_backward_data(&conv->shape, &conv->tap_strides, grad_output, weights, grad_input,
                               scratch);
        return DML_OK;
    }
    if (conv->data_weights) {
        TRY(run(conv->engine, &conv->data_reorder, (const void *[]){weights, scratch}, NULL));
        weights = scratch;
    }
    return run(conv->engine, &conv->data, (const void *[]){grad_output, weights, grad_input},
               (char *)scratch + conv->data_weights);
}

enum dml_status cpu_conv_backward_weights(struct cpu_conv *conv, const float *input,
                                          const float *grad_output, float *grad_weights,
                                          float *grad_bias, void *scratch) {
    if (conv->gradient_by_taps) {
        cpu_taps_backward_weights(&conv->shape, &conv->tap_strides, input, grad_output,
                                  grad_weights, grad_bias, scratch);
        return DML_OK;
    }
    float *target = conv->gradient_weights ? scratch : grad_weights;
    TRY(run(conv->engine, &conv->gradient, (const void *[]){input, grad_output, target, grad_bias},
            (char *)scratch + conv->gradient_weights));
    if (!conv->gradient_weights)
        return DML_OK;
    return run(conv->engine, &conv->gradient_reorder, (const void *[]){target, grad_weights}, NULL);
}
