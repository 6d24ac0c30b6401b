/* How many samples are nearer to queries than their positives are. Counts of whole numbers do not
 * depend on the order, so atomic additions may be used. */
#include "backends/cuda/device/launch.h"

/* The first level that is below `value`; levels descend. */
static __device__ size_t first_below(const float *level, size_t count, float value) {
    size_t low = 0;
    while (count > 0) {
        size_t half = count / 2;
        bool right = level[low + half] >= value;
        low = right ? low + half + 1 : low;
        count = right ? count - half - 1 : half;
    }
    return low;
}

/* One block per query. */
static __global__ void count_nearer_kernel(struct cuda_ranking r) {
    size_t q = blockIdx.x, first = r.start[q], count = r.start[q + 1] - first;
    if (count == 0)
        return;
    const float *level = r.level + first, *product = r.product + q * r.columns;
    float error = r.error[q], far = level[count - 1] - error;
    for (size_t j = threadIdx.x; j < r.columns; j += THREADS) {
        float value = product[j] - r.half[j];
        if (value < far || (r.column + j >= r.own[2 * q] && r.column + j < r.own[2 * q + 1]))
            continue;
        size_t p = first_below(level, count, value);
        if ((p < count && value - level[p] <= error) || (p > 0 && level[p - 1] - value <= error)) {
            uint32_t place = atomicAdd(r.unsure, 1u);
            if (place < r.most) {
                r.unsure[1 + 2 * place] = (uint32_t)q;
                r.unsure[2 + 2 * place] = (uint32_t)j;
            }
        } else if (p < count) {
            atomicAdd(&r.nearer[first + p], 1u);
        }
    }
}
static void count_nearer(cuda_stream s, const struct cuda_ranking *ranking) {
    LAUNCH(count_nearer_kernel, ranking->queries, THREADS, s, *ranking);
}

void cuda_fill_ranks(struct cuda_kernels *table) {
    table->count_nearer = count_nearer;
}
