#include "dml/params_json.h"

#include "params/internal.h"

#include "base/json.h"
#include "base/memory.h"
#include "base/number.h"
#include "base/text.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* `list` with all of its `count` items, or NULL. */
static cJSON *complete(cJSON *list, size_t count) {
    if (list && cJSON_GetArraySize(list) == (int)count)
        return list;
    cJSON_Delete(list);
    return NULL;
}

/* A number with every digit, whereas cJSON would round off the last ones. */
static cJSON *number(double value) {
    char text[DML_NUMBER_SIZE];
    return isfinite(value) ? cJSON_CreateRaw(dml_number_text(value, text)) : cJSON_CreateNull();
}

/* JSON is UTF-8; whatever else a path may hold is escaped. */
static cJSON *text_to_json(const char *text) {
    char *escaped = dml_text_escape(text);
    cJSON *value = escaped ? cJSON_CreateString(escaped) : NULL;
    free(escaped);
    return value;
}

/* NULL: no memory. Numbers with a fraction are raw text when `exact`, and otherwise can be
 * compared. */
static cJSON *value_to_json(const struct dml_param *param, const char *options, bool exact) {
    const void *field = options + param->offset;
    const struct dml_ints *ints = field;
    const struct dml_floats *floats = field;
    const struct dml_strings *strings = field;
    cJSON *list;
    switch (param->type) {
    case DML_PARAM_FLAG:
        return cJSON_CreateBool(*(const bool *)field);
    case DML_PARAM_INT:
        return cJSON_CreateNumber((double)*(const int64_t *)field);
    case DML_PARAM_FLOAT:
        return exact ? number(*(const double *)field) : cJSON_CreateNumber(*(const double *)field);
    case DML_PARAM_STRING:
        return text_to_json(*(char *const *)field);
    case DML_PARAM_CHOICE:
        return cJSON_CreateString(param->choices[*(const int *)field]);
    case DML_PARAM_INTS:
        list = cJSON_CreateArray();
        for (size_t i = 0; i < ints->count; i++)
            cJSON_AddItemToArray(list, cJSON_CreateNumber((double)ints->items[i]));
        return complete(list, ints->count);
    case DML_PARAM_FLOATS:
        list = cJSON_CreateArray();
        for (size_t i = 0; i < floats->count; i++)
            cJSON_AddItemToArray(list, exact ? number(floats->items[i])
                                             : cJSON_CreateNumber(floats->items[i]));
        return complete(list, floats->count);
    case DML_PARAM_STRINGS:
        list = cJSON_CreateArray();
        for (size_t i = 0; i < strings->count; i++)
            cJSON_AddItemToArray(list, text_to_json(strings->items[i]));
        return complete(list, strings->count);
    }
    return NULL;
}

enum dml_status dml_params_to_json(const struct dml_params *params, char **out) {
    cJSON *object = cJSON_CreateObject();
    bool made = object != NULL;
    for (size_t g = 0; g < params->count; g++) {
        const struct dml_param_group *group = &params->groups[g];
        for (size_t i = 0; i < group->table->count && made; i++) {
            cJSON *value = value_to_json(&group->table->params[i], group->options, true);
            made = value && cJSON_AddItemToObject(object, group->table->params[i].name, value);
            if (!made)
                cJSON_Delete(value);
        }
    }
    *out = made ? cJSON_Print(object) : NULL;
    cJSON_Delete(object);
    return *out ? DML_OK : dml_fail(DML_ERROR_MEMORY, "out of memory for the parameter file");
}

/* The JSON value as the text that would have been typed; NULL for an object or null. */
static char *json_to_text(const cJSON *value) {
    if (cJSON_IsString(value)) {
        char *text = dml_strdup(value->valuestring);
        if (text)
            dml_text_unescape(text);
        return text;
    }
    if (cJSON_IsBool(value))
        return dml_strdup(cJSON_IsTrue(value) ? "true" : "false");
    return cJSON_IsNumber(value) ? dml_format("%.17g", value->valuedouble) : NULL;
}

static enum dml_status assign_json(const struct dml_param *param, void *options,
                                   const cJSON *value) {
    size_t count = cJSON_IsArray(value) ? (size_t)cJSON_GetArraySize(value) : 1, filled = 0;
    char **texts = dml_alloc(count, sizeof *texts);
    if (!texts)
        return DML_ERROR_MEMORY;
    enum dml_status status = DML_OK;
    const cJSON *item = cJSON_IsArray(value) ? value->child : value;
    for (; filled < count && (texts[filled] = json_to_text(item)); filled++)
        item = item->next;
    if (filled < count)
        status = dml_fail(DML_ERROR_INPUT,
                          "--%s: has a value that is not a text, a number or a list", param->name);
    else
        status = dml_param_assign(param, options, count, (const char *const *)texts);
    for (size_t i = 0; i < filled; i++)
        free(texts[i]);
    free(texts);
    return status;
}

/* A saved file holds defaults too, which may lie outside the bounds of what can be typed. */
static bool is_default(const struct dml_param *param, const cJSON *value) {
    if (cJSON_IsArray(value))
        return value->child == NULL;
    if (!param->fallback)
        return cJSON_IsString(value) && !*value->valuestring;
    if (cJSON_IsNumber(value))
        return strtod(param->fallback, NULL) == value->valuedouble;
    return cJSON_IsString(value) && strcmp(value->valuestring, param->fallback) == 0;
}

/* *out must be deleted even on failure. */
static enum dml_status parse(const char *json, cJSON **out) {
    static const char otherwise[] = "is not a JSON object of parameters";
    enum dml_status status = dml_json_parse(json, strlen(json), out, otherwise);
    return status || cJSON_IsObject(*out) ? status : dml_fail(DML_ERROR_INPUT, otherwise);
}

enum dml_status dml_params_from_json(struct dml_params *params, const char *json, bool lenient) {
    cJSON *object;
    enum dml_status status = parse(json, &object);
    for (const cJSON *item = status ? NULL : object->child; item && !status; item = item->next) {
        struct dml_param_place place;
        const struct dml_param *param = dml_params_find(params, item->string, &place);
        if (!param && !lenient)
            status = dml_fail(DML_ERROR_INPUT, "has an unknown parameter '%s'", item->string);
        if (!param || place.group->given[place.index])
            continue;
        struct dml_param plain = is_default(param, item) ? dml_param_unbounded(param) : *param;
        status = assign_json(&plain, place.group->options, item);
    }
    cJSON_Delete(object);
    return status;
}

/* A value as one would type it. */
static void to_words(const cJSON *value, char *out, size_t size) {
    size_t used = 0;
    out[0] = 0;
    const cJSON *item = cJSON_IsArray(value) ? value->child : value;
    while (item && used < size) {
        char *text = cJSON_IsString(item) ? dml_strdup(item->valuestring)
                                          : cJSON_PrintUnformatted(item); /* 1.2, not %.17g */
        used += (size_t)snprintf(out + used, size - used, " %s", text ? text : "?");
        free(text);
        item = cJSON_IsArray(value) ? item->next : NULL;
    }
}

static enum dml_status disagree(const char *name, const cJSON *own, const cJSON *other) {
    char texts[2][200];
    to_words(own, texts[0], sizeof texts[0]);
    to_words(other, texts[1], sizeof texts[1]);
    return dml_fail(DML_ERROR_USAGE, "--%s%s where it was --%s%s", name, texts[0], name, texts[1]);
}

enum dml_status dml_params_agree(const struct dml_params *params, const char *json) {
    cJSON *object;
    enum dml_status status = parse(json, &object);
    for (const cJSON *item = status ? NULL : object->child; item && !status; item = item->next) {
        struct dml_param_place place;
        const struct dml_param *param = dml_params_find(params, item->string, &place);
        bool may_change = dml_params_facts(params, item->string) & DML_PARAM_MAY_CHANGE;
        if (!param || !place.group->given[place.index] || may_change)
            continue;
        cJSON *own = value_to_json(param, place.group->options, false);
        if (!own)
            status = dml_fail(DML_ERROR_MEMORY, "out of memory: --%s", item->string);
        else if (!cJSON_Compare(own, item, true))
            status = disagree(item->string, own, item);
        cJSON_Delete(own);
    }
    cJSON_Delete(object);
    return status;
}
