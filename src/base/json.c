#include "base/json.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* cJSON does not say whether the text was wrong or memory ran out. */
static _Thread_local bool starved;

static void *allocate(size_t size) {
    void *memory = malloc(size);
    starved = starved || !memory;
    return memory;
}

static void set_hooks(void) {
    cJSON_InitHooks(&(cJSON_Hooks){allocate, free});
}

enum dml_status dml_json_parse(const char *text, size_t size, cJSON **out, const char *format,
                               ...) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char message[1024];
    pthread_once(&once, set_hooks);
    starved = false;
    *out = cJSON_ParseWithLengthOpts(text, size, NULL, false);
    if (*out)
        return DML_OK;
    if (starved)
        return dml_fail(DML_ERROR_MEMORY, "out of memory: %zu bytes of JSON", size);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return dml_fail(DML_ERROR_INPUT, "%s", message);
}

bool dml_json_count(const cJSON *item, uint64_t *out) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble > 0x1p53 ||
        item->valuedouble != (double)(uint64_t)item->valuedouble)
        return false;
    *out = (uint64_t)item->valuedouble;
    return true;
}
