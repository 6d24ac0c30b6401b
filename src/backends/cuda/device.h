#ifndef DML_CUDA_DEVICE_H
#define DML_CUDA_DEVICE_H

#include "backends/cuda/kernels.h"

/* A card, without a type or call of its vendor: what libdml_cuda.so offers (device/device_cuda.c),
 * and tests/cuda_host offers in plain C. Network, plan and parameters are the backend's.
 *
 * Work is queued in the order of the calls and done some time later. Once one fails, all later ones
 * do nothing; `finish` reports it. */

enum { CUDA_INTERFACE = 4, CUDA_REASON = 256, CUDA_GROUP_NAME = 128 };

struct cuda_card {
    char name[128];
    size_t memory, free; /* bytes */
    int major, minor;    /* compute capability */
};

struct cuda_versions {
    int driver, runtime; /* as CUDA counts: 13000 is 13.0 */
    int cudnn;           /* 91900 is 9.19.0; 0: it is not whole */
};

struct cuda_device; /* a card that is in use */

/* How convolutions and products are computed, always with sums in float32: of float32; of float32
 * with 10 bits of mantissa; of bfloat16, where convolutions also read and write bfloat16. */
enum cuda_math { CUDA_FP32, CUDA_TF32, CUDA_BF16 };

/* out = relu?(convolution(x) + residual + bias), all (n, height, width, channels); weights (out_c,
 * kernel_h, kernel_w, in_c / groups). Values are float32, or bfloat16 by the device's math. */
struct cuda_conv_shape {
    size_t n;
    int in_c, in_h, in_w, out_c, out_h, out_w;
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, groups;
    bool bias, residual, relu;
    bool training;       /* `weights` will be called, */
    bool input_gradient; /* and `data` */
};
struct cuda_conv;
enum cuda_pass { CUDA_FORWARD, CUDA_DATA, CUDA_WEIGHTS };

/* c (m, n) = a b + beta c, of float32, for each of `batch` matrices, row-major, `lda` and so on
 * floats from one row to the next, `stride_a` and so on from one matrix to the next. a is (m, k),
 * or (k, m) where transpose_a, and the same for b. narrow: on a device of CUDA_BF16 the factors are
 * rounded to bfloat16. */
struct cuda_gemm {
    bool transpose_a, transpose_b, narrow;
    size_t m, n, k, batch;
    const float *a, *b;
    float *c;
    size_t lda, ldb, ldc, stride_a, stride_b, stride_c;
    float beta;
};

/* Bytes on the card that go to another process's card or come from there. */
struct cuda_transfer {
    void *data;
    size_t bytes;
    int other; /* its number in the group */
    bool send;
};
struct cuda_group; /* cards of several processes that exchange memory */

/* Functions that can fail immediately write one line to `reason` (CUDA_REASON bytes). */
struct cuda_api {
    int interface; /* CUDA_INTERFACE */
    const struct cuda_kernels *kernels;

    void (*versions)(struct cuda_versions *out);
    /* The number of cards; -1: none can be used, for this reason. */
    int (*count)(char *reason);
    bool (*card)(int index, struct cuda_card *out, char *reason);
    /* NULL: it cannot be used. */
    struct cuda_device *(*open)(int index, enum cuda_math math, char *reason);
    void (*close)(struct cuda_device *device);

    /* Memory on the card; NULL: there is not enough. Memory is released after its last use. */
    void *(*alloc)(struct cuda_device *device, size_t bytes);
    void (*release)(struct cuda_device *device, void *memory);
    void (*free_memory)(struct cuda_device *device, size_t *free, size_t *total);

    cuda_stream (*stream)(struct cuda_device *device);
    /* Memory of the processor that the card copies from directly; NULL: there is none. */
    void *(*host_alloc)(size_t bytes);
    void (*host_release)(void *memory);
    /* `from` may be used again when `upload` returns, but if it is of host_alloc, when `finish` has
     * returned; then too `to` holds what was downloaded. */
    void (*upload)(struct cuda_device *device, void *to, const void *from, size_t bytes);
    /* Like `upload`, beside what is queued later: after all that is queued before it, and before
     * what is queued after await_uploads. */
    void (*upload_ahead)(struct cuda_device *device, void *to, const void *from, size_t bytes);
    void (*await_uploads)(struct cuda_device *device);
    void (*download)(struct cuda_device *device, void *to, const void *from, size_t bytes);
    void (*copy)(struct cuda_device *device, void *to, const void *from, size_t bytes);
    void (*zero)(struct cuda_device *device, void *to, size_t bytes);
    /* Waits for everything queued. NULL, or what went wrong; a failure is permanent. */
    const char *(*finish)(struct cuda_device *device);

    void (*gemm)(struct cuda_device *device, const struct cuda_gemm *gemm);

    struct cuda_conv *(*conv_create)(struct cuda_device *device,
                                     const struct cuda_conv_shape *shape, char *reason);
    void (*conv_destroy)(void *conv); /* a struct cuda_conv */
    size_t (*conv_scratch)(const struct cuda_conv *conv, enum cuda_pass pass); /* bytes */
    void (*conv_forward)(struct cuda_device *device, struct cuda_conv *conv, const void *x,
                         const void *weights, const void *bias, const void *residual, void *y,
                         void *scratch);
    void (*conv_data)(struct cuda_device *device, struct cuda_conv *conv, const void *grad,
                      const void *weights, void *grad_x, void *scratch);
    void (*conv_weights)(struct cuda_device *device, struct cuda_conv *conv, const void *grad,
                         const void *x, void *grad_weights, void *scratch);

    /* A name (CUDA_GROUP_NAME bytes) for a new group; false: cards cannot be joined. */
    bool (*group_name)(char *name, char *reason);
    /* Joins the card to the others, whose processes all call this. NULL: they cannot be joined. */
    struct cuda_group *(*group_join)(struct cuda_device *device, const char *name, int index,
                                     int count, char *reason);
    /* Whatever is under way ends. */
    void (*group_leave)(struct cuda_group *group);
    /* Queues all of these at once. The other cards do the same in the same order. */
    void (*group_exchange)(struct cuda_device *device, struct cuda_group *group,
                           const struct cuda_transfer *transfers, size_t count);
    /* Whether something queued is not done yet, and has not failed. */
    bool (*group_busy)(struct cuda_device *device, struct cuda_group *group);
};

/* The one symbol of libdml_cuda.so. */
const struct cuda_api *dml_cuda_api(void);

#endif
