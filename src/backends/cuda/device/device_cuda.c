#include "backends/cuda/device/cudnn_choose.h"
#include "backends/cuda/device/nccl.h"
#include "backends/cuda/device/usable.h"

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A card by CUDA's runtime, cuBLAS and cuDNN. Everything queued is done in order, in one stream;
 * only uploads beside it have their own, and events put them in their place. */
struct cuda_device {
    int index;
    cudaStream_t stream, beside;
    cudaEvent_t before, uploaded; /* recorded in the first, and in the second */
    cublasHandle_t blas;
    struct cudnn_target target;
    struct cudnn_choices *choices;
    char failure[CUDA_REASON]; /* the first; "" while all is well */
};

struct cuda_conv {
    struct cuda_conv_shape shape;
    bool fused; /* else bias, residual and relu take a separate pass */
    const struct cudnn_plan *plans[3];
};

static void note(struct cuda_device *device, const char *what, const char *message) {
    if (!*device->failure)
        snprintf(device->failure, sizeof device->failure, "%s: %s", what, message);
}
static void note_cuda(struct cuda_device *device, const char *what, cudaError_t status) {
    if (status != cudaSuccess)
        note(device, what, cudaGetErrorString(status));
}
static bool works(const struct cuda_device *device) {
    return !*device->failure;
}

/* Whether the library is there that libcudnn.so.9 opens at the first call, by its name or beside
 * itself; cuDNN ends the program where it is not. */
static bool cudnn_is_whole(void) {
    static const char behind[] = "libcudnn_graph.so.9";
    void *library = dlopen(behind, RTLD_LAZY | RTLD_LOCAL);
    Dl_info own;
    if (!library && dladdr((void *)(size_t)&cudnnGetVersion, &own) && own.dli_fname) {
        const char *slash = strrchr(own.dli_fname, '/');
        char path[4096];
        snprintf(path, sizeof path, "%.*s/%s", slash ? (int)(slash - own.dli_fname) : 0,
                 own.dli_fname, behind);
        library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    }
    if (library)
        dlclose(library);
    return library;
}

static void versions(struct cuda_versions *out) {
    *out = (struct cuda_versions){0};
    cudaDriverGetVersion(&out->driver);
    cudaRuntimeGetVersion(&out->runtime);
    if (cudnn_is_whole())
        out->cudnn = (int)cudnnGetVersion();
}

static int count(char *reason) {
    struct cuda_versions v;
    int cards = 0;
    versions(&v);
    if (!cuda_usable_versions(&v, reason))
        return -1;
    cudaError_t status = cudaGetDeviceCount(&cards);
    if (status == cudaSuccess && cards > 0)
        return cards;
    cudaGetLastError();
    snprintf(reason, CUDA_REASON, "%s",
             status == cudaSuccess || status == cudaErrorNoDevice ? "there is no NVIDIA GPU"
                                                                  : cudaGetErrorString(status));
    return -1;
}

static bool failed(cudaError_t status, char *reason) {
    if (status == cudaSuccess)
        return false;
    cudaGetLastError();
    snprintf(reason, CUDA_REASON, "%s", cudaGetErrorString(status));
    return true;
}

static bool card(int index, struct cuda_card *out, char *reason) {
    struct cudaDeviceProp properties;
    if (failed(cudaGetDeviceProperties(&properties, index), reason))
        return false;
    snprintf(out->name, sizeof out->name, "%.127s", properties.name);
    out->major = properties.major;
    out->minor = properties.minor;
    return cuda_usable_card(out, reason) && !failed(cudaSetDevice(index), reason) &&
           !failed(cudaMemGetInfo(&out->free, &out->memory), reason);
}

static void close_device(struct cuda_device *device) {
    if (!device)
        return;
    cudnn_choices_free(device->choices);
    if (device->target.handle)
        cudnnDestroy(device->target.handle);
    if (device->blas)
        cublasDestroy(device->blas);
    if (device->uploaded)
        cudaEventDestroy(device->uploaded);
    if (device->before)
        cudaEventDestroy(device->before);
    if (device->beside)
        cudaStreamDestroy(device->beside);
    if (device->stream)
        cudaStreamDestroy(device->stream);
    free(device);
}

/* Libraries on the device's stream. cuBLAS repeats to the bit on one stream with a workspace of its
 * own; with fp32 it must not use tensor cores. */
static bool open_libraries(struct cuda_device *device, char *reason) {
    static const cublasMath_t math_modes[] = {[CUDA_FP32] = CUBLAS_PEDANTIC_MATH,
                                              [CUDA_TF32] = CUBLAS_TF32_TENSOR_OP_MATH,
                                              [CUDA_BF16] = CUBLAS_DEFAULT_MATH};
    if (cublasCreate(&device->blas) != CUBLAS_STATUS_SUCCESS ||
        cublasSetStream(device->blas, device->stream) != CUBLAS_STATUS_SUCCESS ||
        cublasSetAtomicsMode(device->blas, CUBLAS_ATOMICS_NOT_ALLOWED) != CUBLAS_STATUS_SUCCESS ||
        cublasSetMathMode(device->blas, math_modes[device->target.math]) != CUBLAS_STATUS_SUCCESS) {
        snprintf(reason, CUDA_REASON, "cuBLAS cannot be used");
        return false;
    }
    cudnnStatus_t status = cudnnCreate(&device->target.handle);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnSetStream(device->target.handle, device->stream);
    if (status != CUDNN_STATUS_SUCCESS)
        snprintf(reason, CUDA_REASON, "cuDNN: %s", cudnnGetErrorString(status));
    return status == CUDNN_STATUS_SUCCESS;
}

static bool open_streams(struct cuda_device *device, char *reason) {
    return !failed(cudaStreamCreate(&device->stream), reason) &&
           !failed(cudaStreamCreateWithFlags(&device->beside, cudaStreamNonBlocking), reason) &&
           !failed(cudaEventCreateWithFlags(&device->before, cudaEventDisableTiming), reason) &&
           !failed(cudaEventCreateWithFlags(&device->uploaded, cudaEventDisableTiming), reason);
}

static struct cuda_device *open_device(int index, enum cuda_math math, char *reason) {
    struct cuda_card there;
    if (!card(index, &there, reason))
        return NULL;
    struct cuda_device *device = calloc(1, sizeof *device);
    snprintf(reason, CUDA_REASON, "no memory");
    if (!device)
        return NULL;
    device->index = index;
    device->target.math = math;
    device->choices = cudnn_choices_new();
    if (!device->choices || !open_streams(device, reason) || !open_libraries(device, reason)) {
        close_device(device);
        return NULL;
    }
    return device;
}

static void *alloc(struct cuda_device *device, size_t bytes) {
    void *memory = NULL;
    if (!works(device) || cudaMalloc(&memory, bytes) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    return memory;
}

/* cudaFree waits for what is queued. */
static void release(struct cuda_device *device, void *memory) {
    (void)device;
    cudaFree(memory);
}

static void free_memory(struct cuda_device *device, size_t *free_bytes, size_t *total) {
    (void)device;
    if (cudaMemGetInfo(free_bytes, total) != cudaSuccess)
        *free_bytes = *total = 0;
}

/* For all contexts, on whichever thread. */
static void *host_alloc(size_t bytes) {
    void *memory = NULL;
    if (cudaHostAlloc(&memory, bytes, cudaHostAllocPortable) == cudaSuccess)
        return memory;
    cudaGetLastError();
    return NULL;
}

static void host_release(void *memory) {
    cudaFreeHost(memory);
}

static cuda_stream stream(struct cuda_device *device) {
    return device->stream;
}

/* A copy from pageable memory returns once its source may be reused, one from pinned memory at
 * once. */
static void upload(struct cuda_device *device, void *to, const void *from, size_t bytes) {
    if (works(device))
        note_cuda(device, "upload",
                  cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, device->stream));
}
/* `then` waits for what is in `first` by now. */
static void order(struct cuda_device *device, cudaStream_t first, cudaEvent_t event,
                  cudaStream_t then) {
    note_cuda(device, "event", cudaEventRecord(event, first));
    note_cuda(device, "event", cudaStreamWaitEvent(then, event, 0));
}
static void upload_ahead(struct cuda_device *device, void *to, const void *from, size_t bytes) {
    if (!works(device))
        return;
    order(device, device->stream, device->before, device->beside);
    note_cuda(device, "upload",
              cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, device->beside));
}
static void await_uploads(struct cuda_device *device) {
    if (works(device))
        order(device, device->beside, device->uploaded, device->stream);
}
static void download(struct cuda_device *device, void *to, const void *from, size_t bytes) {
    if (works(device))
        note_cuda(device, "download",
                  cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, device->stream));
}
static void copy(struct cuda_device *device, void *to, const void *from, size_t bytes) {
    if (works(device))
        note_cuda(device, "copy",
                  cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, device->stream));
}
static void zero(struct cuda_device *device, void *to, size_t bytes) {
    if (works(device))
        note_cuda(device, "memset", cudaMemsetAsync(to, 0, bytes, device->stream));
}

static const char *finish(struct cuda_device *device) {
    note_cuda(device, "kernel", cudaGetLastError());
    note_cuda(device, "computing", cudaStreamSynchronize(device->stream));
    return works(device) ? NULL : device->failure;
}

/* cuBLAS is column-major: the product of the transposes, in the other order. */
static void gemm(struct cuda_device *device, const struct cuda_gemm *g) {
    const float one = 1;
    cublasComputeType_t compute = CUBLAS_COMPUTE_32F_PEDANTIC;
    if (device->target.math == CUDA_TF32)
        compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    else if (device->target.math == CUDA_BF16 && g->narrow)
        compute = CUBLAS_COMPUTE_32F_FAST_16BF;
    if (!works(device) || !g->m || !g->n || !g->batch)
        return;
    cublasStatus_t status = cublasGemmStridedBatchedEx(
        device->blas, g->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
        g->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, (int)g->n, (int)g->m, (int)g->k, &one, g->b,
        CUDA_R_32F, (int)g->ldb, (long long)g->stride_b, g->a, CUDA_R_32F, (int)g->lda,
        (long long)g->stride_a, &g->beta, g->c, CUDA_R_32F, (int)g->ldc, (long long)g->stride_c,
        (int)g->batch, compute, CUBLAS_GEMM_DEFAULT);
    if (status != CUBLAS_STATUS_SUCCESS)
        note(device, "cuBLAS", cublasGetStatusString(status));
}

static const struct cudnn_plan *choose(struct cuda_device *device,
                                       const struct cuda_conv_shape *shape, enum cuda_pass pass,
                                       bool fused, char *reason) {
    return cudnn_choose(device->choices, &device->target, device->stream, shape, pass, fused,
                        reason);
}

static struct cuda_conv *conv_create(struct cuda_device *device,
                                     const struct cuda_conv_shape *shape, char *reason) {
    struct cuda_conv *conv = calloc(1, sizeof *conv);
    if (!conv)
        return NULL;
    conv->shape = *shape;
    conv->fused = true;
    conv->plans[CUDA_FORWARD] = choose(device, shape, CUDA_FORWARD, true, reason);
    if (!conv->plans[CUDA_FORWARD]) {
        conv->fused = false;
        conv->plans[CUDA_FORWARD] = choose(device, shape, CUDA_FORWARD, false, reason);
    }
    bool found = conv->plans[CUDA_FORWARD] != NULL;
    if (found && shape->training)
        found = (conv->plans[CUDA_WEIGHTS] = choose(device, shape, CUDA_WEIGHTS, false, reason));
    if (found && shape->input_gradient)
        found = (conv->plans[CUDA_DATA] = choose(device, shape, CUDA_DATA, false, reason));
    if (found)
        return conv;
    free(conv);
    return NULL;
}

static void conv_destroy(void *conv) {
    free(conv);
}

static size_t conv_scratch(const struct cuda_conv *conv, enum cuda_pass pass) {
    return conv->plans[pass] ? conv->plans[pass]->scratch : 0;
}

static void run(struct cuda_device *device, struct cuda_conv *conv, enum cuda_pass pass,
                const struct cudnn_operands *operands, void *scratch) {
    if (!works(device))
        return;
    cudnnStatus_t status = cudnn_run(device->target.handle, conv->plans[pass], operands, scratch);
    if (status != CUDNN_STATUS_SUCCESS)
        note(device, "cuDNN", cudnnGetErrorString(status));
}

/* y = relu?(y + residual + bias). */
static void add_unfused(struct cuda_device *device, const struct cuda_conv_shape *s,
                        const void *bias, const void *residual, void *y) {
    const struct cuda_kernels *k = dml_cuda_kernels();
    const bool narrow = device->target.math == CUDA_BF16;
    const size_t width = (size_t)s->out_c, pixels = (size_t)s->out_h * (size_t)s->out_w;
    struct cuda_terms terms = {{{y, pixels * width, width, 0, false, narrow}}, 1};
    if (residual)
        terms.items[terms.count++] =
            (struct cuda_term){residual, pixels * width, width, 0, false, narrow};
    if (bias)
        terms.items[terms.count++] = (struct cuda_term){bias, 0, 0, 1, true, narrow};
    if (terms.count > 1)
        k->combine(device->stream, s->n, pixels, width, &terms, NULL, narrow, y);
    if (s->relu)
        k->affine(device->stream, (struct cuda_rows){s->n * pixels, width, width, narrow}, y, NULL,
                  NULL, NULL, true, y);
}

static void conv_forward(struct cuda_device *device, struct cuda_conv *conv, const void *x,
                         const void *weights, const void *bias, const void *residual, void *y,
                         void *scratch) {
    const struct cuda_conv_shape *s = &conv->shape;
    const struct cudnn_operands operands = {x, weights, conv->fused ? bias : NULL,
                                            conv->fused ? residual : NULL, y};
    run(device, conv, CUDA_FORWARD, &operands, scratch);
    if (!conv->fused)
        add_unfused(device, s, bias, residual, y);
}

static void conv_data(struct cuda_device *device, struct cuda_conv *conv, const void *grad,
                      const void *weights, void *grad_x, void *scratch) {
    const struct cudnn_operands operands = {grad_x, weights, NULL, NULL, (void *)(size_t)grad};
    run(device, conv, CUDA_DATA, &operands, scratch);
}

static void conv_weights(struct cuda_device *device, struct cuda_conv *conv, const void *grad,
                         const void *x, void *grad_weights, void *scratch) {
    const struct cudnn_operands operands = {x, grad_weights, NULL, NULL, (void *)(size_t)grad};
    run(device, conv, CUDA_WEIGHTS, &operands, scratch);
}

static bool group_name(char *name, char *reason) {
    return nccl_name("libnccl.so.2", name, reason);
}

static struct cuda_group *group_join(struct cuda_device *device, const char *name, int index,
                                     int count, char *reason) {
    if (failed(cudaSetDevice(device->index), reason))
        return NULL;
    return nccl_join(name, index, count, reason);
}

static void group_exchange(struct cuda_device *device, struct cuda_group *group,
                           const struct cuda_transfer *transfers, size_t count) {
    const char *failure =
        works(device) ? nccl_exchange(group, device->stream, transfers, count) : NULL;
    if (failure)
        note(device, "NCCL", failure);
}

static bool group_busy(struct cuda_device *device, struct cuda_group *group) {
    const char *failure;
    bool busy = nccl_busy(group, &failure);
    if (failure)
        note(device, "NCCL", failure);
    return works(device) && (busy || cudaStreamQuery(device->stream) == cudaErrorNotReady);
}

__attribute__((visibility("default"))) const struct cuda_api *dml_cuda_api(void) {
    static struct cuda_api api = {
        .interface = CUDA_INTERFACE,
        .versions = versions,
        .count = count,
        .card = card,
        .open = open_device,
        .close = close_device,
        .alloc = alloc,
        .release = release,
        .free_memory = free_memory,
        .stream = stream,
        .host_alloc = host_alloc,
        .host_release = host_release,
        .upload = upload,
        .upload_ahead = upload_ahead,
        .await_uploads = await_uploads,
        .download = download,
        .copy = copy,
        .zero = zero,
        .finish = finish,
        .gemm = gemm,
        .conv_create = conv_create,
        .conv_destroy = conv_destroy,
        .conv_scratch = conv_scratch,
        .conv_forward = conv_forward,
        .conv_data = conv_data,
        .conv_weights = conv_weights,
        .group_name = group_name,
        .group_join = group_join,
        .group_leave = nccl_leave,
        .group_exchange = group_exchange,
        .group_busy = group_busy,
    };
    api.kernels = dml_cuda_kernels();
    return &api;
}
