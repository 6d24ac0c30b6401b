#include "backends/cuda/classes.h"
#include "backends/cuda/cuda.h"
#include "cuda_host/device_host.h"
#include "support/tested.h"

#include <stdlib.h>

static struct cuda_banks banks;

/* Linked into a test of networks or criteria, this has it test the CUDA backend: on the card in
 * plain C, or with DML_TEST_CARD set (tests/gpu.sh) on a real one. */
__attribute__((constructor)) static void use_cuda_backend(void) {
    if (!getenv("DML_TEST_CARD"))
        dml_cuda_replace(cuda_host_api());
    test_backend(&dml_backend_cuda);
    cuda_banks_make(0, 1, 0, &banks);
    test_banks(&banks.banks);
}
