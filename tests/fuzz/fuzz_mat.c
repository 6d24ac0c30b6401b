#include "data/layouts/mat_file.h"
#include "fuzz/fuzz_file.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct dml_mat mat;
    const char *path = fuzz_file(data, size);
    if (dml_mat_open(path, "annotations", &mat) == DML_OK) {
        dml_mat_field(&mat, "fname");
        for (size_t row = 0; row < mat.rows; row++)
            for (size_t field = 0; field < mat.fields; field++) {
                int64_t number;
                char text[32];
                dml_mat_number(&mat, row, (int)field, &number);
                if (dml_mat_text(&mat, row, (int)field, text, sizeof text) && !memchr(text, 0, 32))
                    abort();
            }
    }
    dml_mat_close(&mat);
    return 0;
}
