#ifndef DML_CUDA_CUDA_H
#define DML_CUDA_CUDA_H

#include "backends/cuda/device.h"

/* The functions of libdml_cuda.so, which is looked for beside the library or program that holds
 * this code, where `make install` puts it, then in $DML_BACKENDS, and opened once. NULL: it cannot
 * be used, and `reason` (CUDA_REASON bytes) says why in one line. */
const struct cuda_api *dml_cuda_find(char *reason);

/* Whether libdml_cuda.so is there at all. */
bool dml_cuda_built(void);

/* Whether there is an NVIDIA driver. Without one libdml_cuda.so need not be opened, which loads
 * CUDA's libraries, hundreds of megabytes. */
bool dml_cuda_driver(void);

/* Uses these from now on, as tests do with a card simulated in plain C; NULL: libdml_cuda.so
 * again. */
void dml_cuda_replace(const struct cuda_api *api);

#endif
