#include "params/internal.h"

#include "base/memory.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct dml_param dml_param_unbounded(const struct dml_param *param) {
    struct dml_param plain = *param;
    plain.min = plain.max = 0;
    plain.above_min = false;
    if (param->type != DML_PARAM_CHOICE)
        plain.choices = NULL;
    return plain;
}

static bool has_bounds(const struct dml_param *param) {
    bool endless = isinf(param->min) && isinf(param->max);
    return !endless && (param->min != 0 || param->max != 0 || param->above_min);
}

void dml_param_bounds_text(const struct dml_param *param, char *out, size_t size) {
    *out = 0;
    if (!has_bounds(param))
        return;
    if (isinf(param->max))
        snprintf(out, size, "%s %.10g", param->above_min ? "above" : "at least", param->min);
    else if (isinf(param->min))
        snprintf(out, size, "at most %.10g", param->max);
    else if (param->above_min)
        snprintf(out, size, "above %.10g and at most %.10g", param->min, param->max);
    else
        snprintf(out, size, "%.10g to %.10g", param->min, param->max);
}

static enum dml_status check_bounds(const struct dml_param *param, double value) {
    if (!has_bounds(param))
        return DML_OK;
    bool low = param->above_min ? !(value > param->min) : value < param->min;
    if (!low && value <= param->max)
        return DML_OK;
    char bounds[80];
    dml_param_bounds_text(param, bounds, sizeof bounds);
    return dml_fail(DML_ERROR_USAGE, "--%s: %.10g is out of bounds: it must be %s", param->name,
                    value, bounds);
}

static enum dml_status parse_flag(const struct dml_param *param, const char *text, bool *out) {
    *out = strcmp(text, "true") == 0;
    if (*out || strcmp(text, "false") == 0)
        return DML_OK;
    return dml_fail(DML_ERROR_USAGE, "--%s is a switch and takes no value: '%s'", param->name,
                    text);
}

static enum dml_status parse_int(const struct dml_param *param, const char *text, int64_t *out) {
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return dml_fail(DML_ERROR_USAGE, "--%s: '%s' is not a whole number", param->name, text);
    return check_bounds(param, (double)*out);
}

static enum dml_status parse_float(const struct dml_param *param, const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end || !isfinite(*out))
        return dml_fail(DML_ERROR_USAGE, "--%s: '%s' is not a number", param->name, text);
    return check_bounds(param, *out);
}

/* The index of the text among the choices. */
static enum dml_status parse_choice(const struct dml_param *param, const char *text, int *out) {
    char known[600] = "";
    size_t used = 0;
    for (int i = 0; param->choices[i]; i++) {
        if (strcmp(param->choices[i], text) == 0) {
            *out = i;
            return DML_OK;
        }
        if (used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                                     param->choices[i]);
    }
    return dml_fail(DML_ERROR_USAGE, "--%s: there is no '%s'; choose from %s", param->name, text,
                    known);
}

static enum dml_status parse_string(const struct dml_param *param, const char *text, char **out) {
    int index;
    enum dml_status status = param->choices ? parse_choice(param, text, &index) : DML_OK;
    if (status)
        return status;
    *out = dml_strdup(text);
    return *out ? DML_OK : DML_ERROR_MEMORY;
}

/* Parses one value into `field`, which is of the parameter's (element) type. */
static enum dml_status parse_one(const struct dml_param *param, const char *text, void *field) {
    switch (param->type) {
    case DML_PARAM_FLAG:
        return parse_flag(param, text, field);
    case DML_PARAM_INT:
    case DML_PARAM_INTS:
        return parse_int(param, text, field);
    case DML_PARAM_FLOAT:
    case DML_PARAM_FLOATS:
        return parse_float(param, text, field);
    case DML_PARAM_CHOICE:
        return parse_choice(param, text, field);
    case DML_PARAM_STRING:
    case DML_PARAM_STRINGS:
        return parse_string(param, text, field);
    }
    return DML_OK;
}

/* The three list types have one layout; `items` stands for any of their pointers. */
struct list {
    size_t count;
    void *items;
};

static void free_list(enum dml_param_type type, struct list list) {
    for (size_t i = 0; type == DML_PARAM_STRINGS && i < list.count; i++)
        free(((char **)list.items)[i]);
    free(list.items);
}

static enum dml_status assign_list(const struct dml_param *param, struct list *field, size_t count,
                                   const char *const *values) {
    enum { ITEM = 8 };
    _Static_assert(sizeof(int64_t) == ITEM && sizeof(double) == ITEM && sizeof(char *) == ITEM,
                   "items of all lists have one size");
    struct list fresh = {0, dml_alloc(count, ITEM)};
    if (!fresh.items)
        return DML_ERROR_MEMORY;
    for (; fresh.count < count; fresh.count++) {
        enum dml_status status =
            parse_one(param, values[fresh.count], (char *)fresh.items + fresh.count * ITEM);
        if (status) {
            free_list(param->type, fresh);
            return status;
        }
    }
    free_list(param->type, *field);
    *field = fresh;
    return DML_OK;
}

enum dml_status dml_param_assign(const struct dml_param *param, void *options, size_t count,
                                 const char *const *values) {
    void *field = (char *)options + param->offset;
    if (param->type >= DML_PARAM_INTS)
        return assign_list(param, field, count, values);
    if (param->type == DML_PARAM_FLAG && count == 0) {
        *(bool *)field = true;
        return DML_OK;
    }
    if (count != 1)
        return dml_fail(DML_ERROR_USAGE, "--%s takes one value, not %zu", param->name, count);
    char fresh[sizeof(int64_t)];
    enum dml_status status = parse_one(param, values[0], fresh);
    if (status)
        return status;
    if (param->type == DML_PARAM_STRING)
        free(*(char **)field);
    size_t size = param->type == DML_PARAM_FLAG     ? sizeof(bool)
                  : param->type == DML_PARAM_CHOICE ? sizeof(int)
                                                    : sizeof fresh;
    memcpy(field, fresh, size);
    return DML_OK;
}
