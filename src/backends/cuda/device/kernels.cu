#include "backends/cuda/device/launch.h"

extern "C" const struct cuda_kernels *dml_cuda_kernels(void) {
    static struct cuda_kernels table;
    cuda_fill_maps(&table);
    cuda_fill_pools(&table);
    cuda_fill_rows(&table);
    cuda_fill_params(&table);
    cuda_fill_ranks(&table);
    cuda_fill_classes(&table);
    return &table;
}
