#ifndef DML_BASE_MEMORY_H
#define DML_BASE_MEMORY_H

#include "dml/error.h"

#include <stddef.h>

/* count * size bytes, zeroed; NULL sets DML_ERROR_MEMORY's message. count * size may overflow:
 * that fails like any other. A count of 0 gives a pointer that can be freed. */
void *dml_alloc(size_t count, size_t size);

/* Aligned to 64 bytes, not zeroed; freed with free(). */
void *dml_alloc_aligned(size_t count, size_t size);

/* Grows an array to hold `need` items of `size` bytes, at least doubling. `items` is the address of
 * the pointer to it, of whatever type; that pointer and `*capacity` change on success only. */
enum dml_status dml_grow(void *items, size_t *capacity, size_t need, size_t size);

/* Memory from elsewhere, such as what a GPU copies from directly. `alloc` gives NULL where there is
 * none. */
struct dml_memory_source {
    void *(*alloc)(void *data, size_t bytes);
    void (*release)(void *data, void *memory);
    void *data;
};

char *dml_strdup(const char *text);
char *dml_format(const char *format, ...) __attribute__((format(printf, 1, 2))); /* free() it */

#endif
