#ifndef TESTS_FUZZ_TENSORS_H
#define TESTS_FUZZ_TENSORS_H

#include "nn/weights/tensors.h"

#include <stdlib.h>

/* What every use of a list does: all values, all notes. A parser that let a wrong size through
 * fails here under the address sanitizer. */
static inline void fuzz_read_all(struct dml_tensors *tensors) {
    for (size_t i = 0; i < tensors->count; i++) {
        const struct dml_tensor *tensor = &tensors->items[i];
        float *values = malloc(tensor->count * sizeof *values + 1);
        if (values)
            dml_tensor_floats(tensor, values);
        free(values);
        if (dml_tensors_find(tensors, tensor->name) != tensor)
            abort(); /* two of one name */
    }
    for (size_t i = 0; i < tensors->note_count; i++)
        if (dml_tensors_note(tensors, tensors->notes[i].key) != tensors->notes[i].value)
            abort();
    dml_tensors_free(tensors);
}

#endif
