#include "base/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *refused(size_t count, size_t size) {
    dml_fail(DML_ERROR_MEMORY, "out of memory: cannot allocate %zu x %zu bytes", count, size);
    return NULL;
}

void *dml_alloc(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    return memory ? memory : refused(count, size);
}

void *dml_alloc_aligned(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - 64)
        return refused(count, size);
    bytes = (bytes + 63) / 64 * 64;
    void *memory = aligned_alloc(64, bytes ? bytes : 64);
    return memory ? memory : refused(count, size);
}

enum dml_status dml_grow(void *items, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity)
        return DML_OK;
    size_t wanted = *capacity * 2 > need ? *capacity * 2 : need;
    size_t bytes;
    void *old, *grown; /* copied, since the caller's pointer is not a void * */
    memcpy(&old, items, sizeof old);
    grown = __builtin_mul_overflow(wanted, size, &bytes) ? NULL : realloc(old, bytes);
    if (!grown) {
        refused(wanted, size);
        return DML_ERROR_MEMORY;
    }
    memcpy(items, &grown, sizeof grown);
    *capacity = wanted;
    return DML_OK;
}

char *dml_strdup(const char *text) {
    return dml_format("%s", text);
}

char *dml_format(const char *format, ...) {
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return length < 0 ? refused(1, 1) : text;
}
