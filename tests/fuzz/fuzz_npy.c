#include "base/npy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct dml_npy npy;
    float *floats;
    int32_t *integers;
    /* A copy of the exact size, so that a read beyond its end is seen. */
    uint8_t *copy = malloc(size + !size);
    if (size)
        memcpy(copy, data, size);
    if (dml_npy_parse(copy, size, "fuzz.npy", &npy) == DML_OK) {
        if (dml_npy_floats(&npy, &floats) == DML_OK)
            free(floats);
        if (dml_npy_int32(&npy, &integers) == DML_OK)
            free(integers);
        const double *view;
        double *doubles;
        if (dml_npy_view64(&npy, &view, &doubles) == DML_OK)
            free(doubles);
        dml_npy_is_float32(&npy);
    }
    free(copy);
    return 0;
}
