#include "fuzz/fuzz_tensors.h"
#include "nn/weights/torch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Both of torch's formats, told apart by the input. Zip entries have checksums that a mutation
 * rarely keeps; the older format, without any, takes the same pickles. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct dml_tensors tensors;
    if (!dml_torch_is_zip(data, size) && !dml_torch_is_legacy(data, size))
        return -1;
    if (dml_tensors_parse(data, size, "fuzz.pth", &tensors) == DML_OK)
        fuzz_read_all(&tensors);
    return 0;
}
