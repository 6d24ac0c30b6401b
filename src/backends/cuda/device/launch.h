#ifndef DML_CUDA_LAUNCH_H
#define DML_CUDA_LAUNCH_H

/* All that differs between kernels compiled by nvcc and by a C++ compiler for tests: how a kernel
 * is started, and how memory is shared by the threads of a block. */
#ifdef __CUDACC__
#include <cuda_runtime.h>
#define LAUNCH(kernel, blocks, threads, stream, ...)                                               \
    do {                                                                                           \
        if ((blocks) > 0)                                                                          \
            kernel<<<(unsigned)(blocks), threads, 0, (cudaStream_t)(stream)>>>(__VA_ARGS__);       \
    } while (0)
#define SHARED(type, name, count) __shared__ type name[count]
#else
#include "cuda_shim/shim.h"
#endif

#include "backends/cuda/kernels.h"

#include <string.h>

/* Threads per block, for kernels that do not say otherwise. */
enum { THREADS = 256 };

/* The parts of the table, one per file. */
void cuda_fill_maps(struct cuda_kernels *table);
void cuda_fill_pools(struct cuda_kernels *table);
void cuda_fill_rows(struct cuda_kernels *table);
void cuda_fill_params(struct cuda_kernels *table);
void cuda_fill_ranks(struct cuda_kernels *table);
void cuda_fill_classes(struct cuda_kernels *table);

static inline size_t blocks_for(size_t count, size_t threads) {
    return (count + threads - 1) / threads;
}

/* This thread's number among all threads. */
static __device__ inline size_t thread_number() {
    return (size_t)blockIdx.x * blockDim.x + threadIdx.x;
}

/* i = row * width + column; in 32 bits where that will do, which is several times faster. */
static __device__ inline size_t row_of(size_t i, size_t width, size_t *column) {
    if (i >> 32 == 0 && width >> 32 == 0) {
        unsigned row = (unsigned)i / (unsigned)width;
        *column = (unsigned)i - row * (unsigned)width;
        return row;
    }
    size_t row = i / width;
    *column = i - row * width;
    return row;
}

/* The sum of `value` over the block, for all of its THREADS threads, which must all call it.
 * `part` has THREADS + 16 places. */
static __device__ inline double block_sum(double value, double *part) {
    unsigned t = threadIdx.x;
    part[t] = value;
    __syncthreads();
    if (t < 16) {
        double sum = 0;
        for (unsigned k = 0; k < THREADS / 16; k++)
            sum += part[t * (THREADS / 16) + k];
        part[THREADS + t] = sum;
    }
    __syncthreads();
    double total = 0;
    for (unsigned k = 0; k < 16; k++)
        total += part[THREADS + k];
    __syncthreads(); /* `part` may be used again */
    return total;
}

static __device__ inline double block_max(double value, double *part) {
    unsigned t = threadIdx.x;
    part[t] = value;
    __syncthreads();
    if (t < 16) {
        double most = part[t * (THREADS / 16)];
        for (unsigned k = 1; k < THREADS / 16; k++)
            most = fmax(most, part[t * (THREADS / 16) + k]);
        part[THREADS + t] = most;
    }
    __syncthreads();
    double most = part[THREADS];
    for (unsigned k = 1; k < 16; k++)
        most = fmax(most, part[THREADS + k]);
    __syncthreads();
    return most;
}

/* A value of a feature map. bfloat16 is the upper half of a float32; the nearest is stored, the
 * even one of two equally near. */
static __device__ inline float value_of(const void *x, size_t at, bool narrow) {
    if (!narrow)
        return ((const float *)x)[at];
    uint32_t wide = (uint32_t)((const uint16_t *)x)[at] << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}
static __device__ inline void store_value(void *x, size_t at, bool narrow, float value) {
    if (!narrow) {
        ((float *)x)[at] = value;
        return;
    }
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    bool nan = (wide & 0x7fffffff) > 0x7f800000;
    uint32_t nearest = (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
    ((uint16_t *)x)[at] = (uint16_t)(nan ? wide >> 16 | 0x40 : nearest);
}

/* The term at pixel s and channel c of image i. */
static __device__ inline float term_value(const struct cuda_term *term, size_t i, size_t s,
                                          size_t c) {
    size_t at = i * term->image + c;
    return term->broadcast ? value_of(term->data, at, term->narrow) * term->scale
                           : value_of(term->data, at + s * term->pixel, term->narrow);
}

#endif
