#include "backends/cuda/device/cudnn_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names of the tensors of a graph. */
enum tensor { X = 'x', WEIGHTS = 'w', Y = 'y', BIAS = 'b', RESIDUAL = 'r', INNER = 'i' };

/* Descriptors of a graph, destroyed together. The first call that fails makes the others do
 * nothing. */
enum { MOST = 32 };
struct building {
    cudnnBackendDescriptor_t made[MOST];
    int count;
    cudnnStatus_t status;
};

static cudnnBackendDescriptor_t make(struct building *b, cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t made = NULL;
    if (b->status == CUDNN_STATUS_SUCCESS)
        b->status = cudnnBackendCreateDescriptor(type, &made);
    if (b->status == CUDNN_STATUS_SUCCESS)
        b->made[b->count++] = made;
    return made;
}

static void set(struct building *b, cudnnBackendDescriptor_t target,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                const void *values) {
    if (b->status == CUDNN_STATUS_SUCCESS)
        b->status = cudnnBackendSetAttribute(target, name, type, count, values);
}
static void set_descriptor(struct building *b, cudnnBackendDescriptor_t target,
                           cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value) {
    set(b, target, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void finalize(struct building *b, cudnnBackendDescriptor_t target) {
    if (b->status == CUDNN_STATUS_SUCCESS)
        b->status = cudnnBackendFinalize(target);
}

static void destroy_all(struct building *b) {
    while (b->count)
        cudnnBackendDestroyDescriptor(b->made[--b->count]);
}

/* A tensor (n, c, h, w) that is stored as (n, h, w, c). */
static cudnnBackendDescriptor_t tensor(struct building *b, int64_t name, cudnnDataType_t type,
                                       const int64_t dims[4], bool is_virtual) {
    const int64_t strides[4] = {dims[1] * dims[2] * dims[3], 1, dims[1] * dims[3], dims[1]};
    const int64_t alignment = 16;
    cudnnBackendDescriptor_t made = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, made, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, made, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(b, made, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(b, made, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &name);
    set(b, made, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (is_virtual)
        set(b, made, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    finalize(b, made);
    return made;
}

static cudnnBackendDescriptor_t convolution(struct building *b, const struct cuda_conv_shape *s) {
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t axes = 2, dilations[2] = {1, 1}, strides[2] = {s->stride_h, s->stride_w},
                  pads[2] = {s->pad_h, s->pad_w};
    cudnnBackendDescriptor_t made = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(b, made, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    set(b, made, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, made, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, made, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    set(b, made, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    set(b, made, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    set(b, made, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    finalize(b, made);
    return made;
}

/* y = x + b, or max(x, 0) where `other` is NULL. */
static cudnnBackendDescriptor_t pointwise(struct building *b, cudnnBackendDescriptor_t x,
                                          cudnnBackendDescriptor_t other,
                                          cudnnBackendDescriptor_t y) {
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnPointwiseMode_t mode = other ? CUDNN_POINTWISE_ADD : CUDNN_POINTWISE_RELU_FWD;
    cudnnBackendDescriptor_t how = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(b, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
    finalize(b, how);
    cudnnBackendDescriptor_t made = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_descriptor(b, made, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_descriptor(b, made, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (other)
        set_descriptor(b, made, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, other);
    set_descriptor(b, made, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finalize(b, made);
    return made;
}

/* The three passes' operations, and the names of what they take. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t conv, x, weights, y, alpha, beta;
} passes[] = {
    [CUDA_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [CUDA_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [CUDA_WEIGHTS] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

/* The pass as a graph. After a convolution the residual comes first: with the bias first there is
 * no plan. */
static cudnnBackendDescriptor_t build(struct building *b, const struct cudnn_target *target,
                                      const struct cuda_conv_shape *s, enum cuda_pass pass,
                                      bool fused) {
    const int64_t in[4] = {(int64_t)s->n, s->in_c, s->in_h, s->in_w};
    const int64_t out[4] = {(int64_t)s->n, s->out_c, s->out_h, s->out_w};
    const int64_t filter[4] = {s->out_c, s->in_c / s->groups, s->kernel_h, s->kernel_w};
    const int64_t vector[4] = {1, s->out_c, 1, 1};
    const float one = 1, zero = 0;
    const cudnnDataType_t map = target->math == CUDA_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t operations[4], other[3] = {NULL}, graph;
    int count = 0, later = 0;
    if (fused && s->residual)
        other[later++] = tensor(b, RESIDUAL, map, out, false);
    if (fused && s->bias)
        other[later++] = tensor(b, BIAS, map, vector, false);
    later += fused && s->relu;
    cudnnBackendDescriptor_t x = tensor(b, X, map, in, false);
    cudnnBackendDescriptor_t w = tensor(b, WEIGHTS, map, filter, false);
    cudnnBackendDescriptor_t now =
        tensor(b, later ? INNER : Y, later ? CUDNN_DATA_FLOAT : map, out, later > 0);
    operations[count] = make(b, passes[pass].type);
    set_descriptor(b, operations[count], passes[pass].conv, convolution(b, s));
    set_descriptor(b, operations[count], passes[pass].x, x);
    set_descriptor(b, operations[count], passes[pass].weights, w);
    set_descriptor(b, operations[count], passes[pass].y, now);
    set(b, operations[count], passes[pass].alpha, CUDNN_TYPE_FLOAT, 1, &one);
    set(b, operations[count], passes[pass].beta, CUDNN_TYPE_FLOAT, 1, &zero);
    finalize(b, operations[count++]);
    for (int k = 0; k < later; k++) {
        bool last = k + 1 == later;
        cudnnBackendDescriptor_t next =
            tensor(b, last ? Y : INNER + 1 + k, last ? map : CUDNN_DATA_FLOAT, out, !last);
        operations[count++] = pointwise(b, now, other[k], next);
        now = next;
    }
    graph = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operations);
    if (target->handle)
        set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
    finalize(b, graph);
    return graph;
}

/* Whether an engine keeps what is promised: sums in float32, with fp32 products in float32 too, and
 * the same bits every time. */
static bool is_allowed(cudnnBackendDescriptor_t config, enum cuda_math math) {
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendDescriptor_t engine = NULL;
    int64_t count = 0, one = 0;
    bool allowed = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) ==
                   CUDNN_STATUS_SUCCESS;
    allowed = allowed && cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                                  CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one,
                                                  &engine) == CUDNN_STATUS_SUCCESS;
    allowed = allowed &&
              cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                       CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
                                       &count, notes) == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; allowed && i < count; i++) {
        bool less = notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE ||
                    notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
        allowed = notes[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC &&
                  notes[i] != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION &&
                  (math != CUDA_FP32 || !less);
    }
    if (engine)
        cudnnBackendDestroyDescriptor(engine);
    return allowed;
}

/* The engine's plan, where it supports the graph. */
static bool make_plan(const struct cudnn_target *target, cudnnBackendDescriptor_t config,
                      struct cudnn_plan *out) {
    struct building b = {.status = CUDNN_STATUS_SUCCESS};
    int64_t one = 0, scratch = 0;
    cudnnBackendDescriptor_t plan = make(&b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set_descriptor(&b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (target->handle)
        set(&b, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
    if (target->described)
        set_descriptor(&b, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target->described);
    finalize(&b, plan);
    if (b.status == CUDNN_STATUS_SUCCESS)
        b.status = cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                            CUDNN_TYPE_INT64, 1, &one, &scratch);
    if (b.status != CUDNN_STATUS_SUCCESS) {
        destroy_all(&b);
        return false;
    }
    *out = (struct cudnn_plan){plan, (size_t)scratch};
    return true;
}

/* Makes plans of what this mode's heuristics propose, after the `count` that exist already. */
static int propose(const struct cudnn_target *target, cudnnBackendDescriptor_t graph,
                   cudnnBackendHeurMode_t mode, struct cudnn_plan *plans, int count, int most) {
    enum { CONFIGS = 24 };
    struct building b = {.status = CUDNN_STATUS_SUCCESS};
    cudnnBackendDescriptor_t configs[CONFIGS];
    int64_t found = 0;
    cudnnBackendDescriptor_t heuristics = make(&b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_descriptor(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (target->described)
        set_descriptor(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target->described);
    finalize(&b, heuristics);
    for (int i = 0; i < CONFIGS; i++)
        configs[i] = make(&b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (b.status == CUDNN_STATUS_SUCCESS)
        b.status =
            cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS, &found, configs);
    for (int64_t i = 0; b.status == CUDNN_STATUS_SUCCESS && i < found && count < most; i++)
        if (is_allowed(configs[i], target->math) && make_plan(target, configs[i], &plans[count]))
            count++;
    destroy_all(&b);
    return count;
}

int cudnn_plans(const struct cudnn_target *target, const struct cuda_conv_shape *shape,
                enum cuda_pass pass, bool fused, struct cudnn_plan *plans, int most, char *reason) {
    struct building b = {.status = CUDNN_STATUS_SUCCESS};
    cudnnBackendDescriptor_t graph = build(&b, target, shape, pass, fused);
    int count = 0;
    if (b.status == CUDNN_STATUS_SUCCESS) {
        count = propose(target, graph, CUDNN_HEUR_MODE_A, plans, count, most);
        if (count == 0)
            count = propose(target, graph, CUDNN_HEUR_MODE_FALLBACK, plans, count, most);
    }
    if (count == 0) {
        bool built = b.status == CUDNN_STATUS_SUCCESS;
        snprintf(reason, CUDA_REASON, "cuDNN %s: %s",
                 built ? "has no plan for the convolution" : "does not accept the convolution",
                 built ? "none is deterministic and precise" : cudnnGetErrorString(b.status));
    }
    destroy_all(&b);
    return count;
}

bool cudnn_same(const struct cuda_conv_shape *a, const struct cuda_conv_shape *b, bool fused) {
    return a->n == b->n && a->in_c == b->in_c && a->in_h == b->in_h && a->in_w == b->in_w &&
           a->out_c == b->out_c && a->out_h == b->out_h && a->out_w == b->out_w &&
           a->kernel_h == b->kernel_h && a->kernel_w == b->kernel_w && a->stride_h == b->stride_h &&
           a->stride_w == b->stride_w && a->pad_h == b->pad_h && a->pad_w == b->pad_w &&
           a->groups == b->groups &&
           (!fused || (a->bias == b->bias && a->residual == b->residual && a->relu == b->relu));
}

void cudnn_plan_destroy(struct cudnn_plan *plan) {
    if (plan->plan)
        cudnnBackendDestroyDescriptor(plan->plan);
    *plan = (struct cudnn_plan){0};
}

cudnnStatus_t cudnn_run(cudnnHandle_t handle, const struct cudnn_plan *plan,
                        const struct cudnn_operands *operands, void *scratch) {
    struct building b = {.status = CUDNN_STATUS_SUCCESS};
    const struct {
        int64_t name;
        const void *at;
    } all[] = {{X, operands->x},
               {WEIGHTS, operands->weights},
               {Y, operands->y},
               {BIAS, operands->bias},
               {RESIDUAL, operands->residual}};
    int64_t names[5];
    const void *pointers[5];
    int count = 0;
    for (int i = 0; i < 5; i++)
        if (all[i].at) {
            names[count] = all[i].name;
            pointers[count++] = all[i].at;
        }
    cudnnBackendDescriptor_t pack = make(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, names);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &scratch);
    finalize(&b, pack);
    if (b.status == CUDNN_STATUS_SUCCESS)
        b.status = cudnnBackendExecute(handle, plan->plan, pack);
    destroy_all(&b);
    return b.status;
}

bool cudnn_describe(const char *json, struct cudnn_target *out, char *reason) {
    struct building b = {.status = CUDNN_STATUS_SUCCESS};
    *out = (struct cudnn_target){0};
    cudnnBackendDescriptor_t made = make(&b, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    set(&b, made, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json),
        json);
    finalize(&b, made);
    if (b.status != CUDNN_STATUS_SUCCESS) {
        snprintf(reason, CUDA_REASON, "cuDNN %zu does not accept a description of a card: %s",
                 cudnnGetVersion(), cudnnGetErrorString(b.status));
        destroy_all(&b);
        return false;
    }
    out->described = made;
    return true;
}

void cudnn_undescribe(struct cudnn_target *target) {
    if (target->described)
        cudnnBackendDestroyDescriptor(target->described);
    target->described = NULL;
}
