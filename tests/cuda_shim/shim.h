#ifndef TESTS_CUDA_SHIM_H
#define TESTS_CUDA_SHIM_H

/* Enough of CUDA's execution model to run kernels on the host: blocks one after another, and the
 * threads of a block until each has ended or stands at a barrier. Shared memory starts as NaN. A
 * thread that ends, or leaves the kernel, while others wait at a barrier ends the program, as does
 * one that waits at another barrier than they. What it cannot find are races by timing: run the
 * three orders of threads. */
#include <cmath>
#include <cstddef>
#include <functional>

#define __global__
#define __device__
#define LAUNCH(kernel, blocks, threads, stream, ...)                                               \
    do {                                                                                           \
        (void)(stream);                                                                            \
        shim_launch(blocks, threads, #kernel, [&] { kernel(__VA_ARGS__); });                       \
    } while (0)
#define SHARED(type, name, count)                                                                  \
    static const char name##_key = 0;                                                              \
    type *name = (type *)shim_shared(&name##_key, (count) * sizeof(type))
#define __syncthreads() shim_barrier(__FILE__, __LINE__)

struct shim_index {
    unsigned x, y, z;
};
extern struct shim_index threadIdx, blockIdx, blockDim, gridDim;

using std::fmax;

/* Threads run one at a time. */
static inline unsigned atomicAdd(unsigned *at, unsigned value) {
    unsigned old = *at;
    *at += value;
    return old;
}

void shim_launch(size_t blocks, unsigned threads, const char *name,
                 const std::function<void()> &thread);
void *shim_shared(const void *key, size_t bytes);
void shim_barrier(const char *file, int line);

/* In which order the threads of a block run between barriers. */
enum shim_order { SHIM_FORWARD, SHIM_REVERSED, SHIM_SHUFFLED };
extern "C" void shim_set_order(int order);
/* Kernels launched so far. */
extern "C" size_t shim_launches(void);

#endif
