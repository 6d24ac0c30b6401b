#include "fuzz/fuzz_file.h"
#include "sweep/sweep.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct dml_sweep sweep;
    char *extra[] = {"--seed", "1"};
    if (dml_sweep_read(fuzz_file(data, size), extra, 2, &sweep) == DML_OK)
        for (size_t i = 0; i < sweep.count; i++)
            if (sweep.runs[i].argc < 2 || sweep.runs[i].argv[sweep.runs[i].argc] ||
                strcmp(sweep.runs[i].argv[sweep.runs[i].argc - 1], "1") != 0)
                abort();
    dml_sweep_free(&sweep);
    return 0;
}
