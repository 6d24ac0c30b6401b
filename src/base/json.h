#ifndef DML_BASE_JSON_H
#define DML_BASE_JSON_H

#include "dml/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads JSON of `size` bytes, which a 0 may but need not follow; after it whatever is there is not
 * looked at. Free *out with cJSON_Delete; it is NULL on failure: DML_ERROR_MEMORY, or
 * DML_ERROR_INPUT with a message of the caller's for what is not JSON. */
enum dml_status dml_json_parse(const char *text, size_t size, cJSON **out, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Whether `item`, which may be NULL, is a whole number from 0 on that a double states exactly; *out
 * is left alone where it is none. */
bool dml_json_count(const cJSON *item, uint64_t *out);

#endif
