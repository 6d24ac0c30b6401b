#include "fuzz/fuzz_tensors.h"
#include "nn/weights/safetensors.h"

#include <endian.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Input: header and data as they are; or, so that mutations need not keep the length in front in
 * step, a header up to a newline and the data after it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct dml_tensors tensors;
    if (dml_safetensors_detect(data, size)) {
        if (dml_tensors_parse(data, size, "fuzz.safetensors", &tensors) == DML_OK)
            fuzz_read_all(&tensors);
        return 0;
    }
    const uint8_t *newline = memchr(data, '\n', size);
    uint8_t *file = newline ? malloc(size + 7) : NULL;
    if (!file)
        return -1;
    size_t length = (size_t)(newline - data);
    uint64_t stored = htole64(length);
    memcpy(file, &stored, 8);
    memcpy(file + 8, data, length);
    memcpy(file + 8 + length, newline + 1, size - length - 1);
    if (dml_safetensors_parse(file, size + 7, "fuzz.safetensors", &tensors) == DML_OK) {
        if (dml_tensors_check_names(&tensors, "fuzz") == DML_OK)
            fuzz_read_all(&tensors);
        else
            dml_tensors_free(&tensors);
    }
    free(file);
    return 0;
}
