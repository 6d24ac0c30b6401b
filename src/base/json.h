#ifndef DML_BASE_JSON_H
#define DML_BASE_JSON_H

#include "dml/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads JSON of `size` bytes, which may but need not be followed by a 0; whatever follows the JSON
 * is ignored. Free *out with cJSON_Delete; it is NULL on failure: DML_ERROR_MEMORY, or
 * DML_ERROR_INPUT with the caller's message for text that is not JSON. */
enum dml_status dml_json_parse(const char *text, size_t size, cJSON **out, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Whether `item`, which may be NULL, is a whole number from 0 on that a double holds exactly; if it
 * is not, *out is left alone. */
bool dml_json_count(const cJSON *item, uint64_t *out);

#endif
