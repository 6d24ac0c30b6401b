#ifndef DML_CUDA_CUDA_H
#define DML_CUDA_CUDA_H

#include "backends/cuda/device.h"

/* The functions of libdml_cuda.so, which is looked for beside the library or program that holds
 * this code, where it is installed for that, then in $DML_BACKENDS, and opened once. NULL: it
 * cannot be used, for the reason that is written (CUDA_REASON bytes): one line. */
const struct cuda_api *dml_cuda_find(char *reason);

/* Whether libdml_cuda.so is there at all. */
bool dml_cuda_built(void);

/* Whether there is an NVIDIA driver. Without one libdml_cuda.so need not be opened, which loads
 * CUDA's libraries, hundreds of megabytes. */
bool dml_cuda_driver(void);

/* Uses these from now on, as tests do with a card in plain C; NULL: libdml_cuda.so again. */
void dml_cuda_replace(const struct cuda_api *api);

#endif
