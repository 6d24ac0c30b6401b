#ifndef DML_CPU_ATTENTION_H
#define DML_CPU_ATTENTION_H

#include "backends/cpu/operations/operation.h"

#include "math/transcendental.h"

#include <float.h>

/* Sizes of the computation for one image and head. */
struct cpu_attention {
    size_t n, heads, tokens, dim, channels;
    const struct cpu_pairs *pairs; /* NULL: in float32 */
};

/* One head with products of pairs. x has its q, and its k and v `channels` further on; the buffers
 * of a thread are that many bytes. Forward: y gets (tokens, dim), log_sums the logarithm of each
 * row's sum of exponentials. Backward: from grad (tokens, dim) those of q, k and v go to `out`,
 * laid out like x. */
size_t cpu_attention_pairs_forward_bytes(const struct cpu_attention *s);
size_t cpu_attention_pairs_backward_bytes(const struct cpu_attention *s);
void cpu_attention_pairs_forward(const struct cpu_attention *s, struct cpu_matrix x,
                                 struct cpu_pair_result y, float *log_sums, void *buffer);
void cpu_attention_pairs_backward(const struct cpu_attention *s, struct cpu_matrix x,
                                  const float *log_sums, struct cpu_matrix grad,
                                  struct cpu_pair_result out, void *buffer);

/* Scaled scores of a row become their softmax; returns the logarithm of the sum of exponentials. */
static inline float cpu_softmax(float *row, size_t count, float scale) {
    float most = -FLT_MAX, sum = 0;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < count; j++) {
        row[j] *= scale;
        most = row[j] > most ? row[j] : most;
    }
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < count; j++) {
        row[j] = dml_expf(row[j] - most);
        sum += row[j];
    }
    float share = 1.0f / sum;
#pragma omp simd
    for (size_t j = 0; j < count; j++)
        row[j] *= share;
    return most + logf(sum);
}

/* From a row's scores and d = dL/d(softmax): the softmax p in place of the scores, and in place of
 * d the gradient of q k^T, p (d - sum p d) / sqrt(dim) with `scale` = 1 / sqrt(dim). */
static inline void cpu_softmax_gradient(float *p, float *d, size_t count, float log_sum,
                                        float scale) {
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (size_t j = 0; j < count; j++) {
        p[j] = dml_expf(p[j] * scale - log_sum);
        dot += p[j] * d[j];
    }
#pragma omp simd
    for (size_t j = 0; j < count; j++)
        d[j] = p[j] * (d[j] - dot) * scale;
}

#endif
