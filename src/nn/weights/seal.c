#include "nn/weights/tensors.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

static const char seal_key[] = "dml_checksum";

enum { SEAL_SIZE = 17 };

static uLong add(uLong sum, const void *data, size_t size) {
    return size ? crc32_z(sum, data, size) : sum; /* no data: zlib would begin anew */
}

static uLong sum_of_tensor(const struct dml_tensor *tensor) {
    const unsigned char dtype = (unsigned char)tensor->dtype;
    uLong sum = add(0, tensor->name, strlen(tensor->name) + 1);
    sum = add(sum, &dtype, 1);
    sum = add(sum, tensor->dims, (size_t)tensor->dim_count * sizeof tensor->dims[0]);
    return add(sum, tensor->data, tensor->count * dml_dtype_size(tensor->dtype));
}

/* The sum of CRC-32s of all tensors and strings: their order in the file does not matter. */
static void seal_of(const struct dml_tensors *tensors, char out[SEAL_SIZE]) {
    uint64_t sum = 0;
    for (size_t i = 0; i < tensors->count; i++)
        sum += sum_of_tensor(&tensors->items[i]);
    for (size_t i = 0; i < tensors->note_count; i++) {
        const struct dml_tensor_note *note = &tensors->notes[i];
        if (strcmp(note->key, seal_key) != 0)
            sum += add(add(0, note->key, strlen(note->key) + 1), note->value, strlen(note->value));
    }
    snprintf(out, SEAL_SIZE, "%016llx", (unsigned long long)sum);
}

enum dml_status dml_tensors_seal(struct dml_tensors *tensors) {
    char seal[SEAL_SIZE];
    seal_of(tensors, seal);
    return dml_tensors_set_note(tensors, seal_key, seal);
}

bool dml_tensors_intact(const struct dml_tensors *tensors) {
    char seal[SEAL_SIZE];
    const char *noted = dml_tensors_note(tensors, seal_key);
    if (!noted)
        return true;
    seal_of(tensors, seal);
    return strcmp(noted, seal) == 0;
}
