#include "nn/backbones/options.h"

#include "base/memory.h"
#include "params/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION = 64 }; /* bytes of one option with its end */

static bool has_lone_name(const struct dml_param *param) {
    return param->type == DML_PARAM_INT && param->min < 0;
}

/* A number without a sign; whole ones have no leading 0. */
static bool is_number(const struct dml_param *param, const char *text) {
    if (param->type == DML_PARAM_INT)
        return *text >= '1' && *text <= '9' && text[strspn(text, "0123456789")] == 0;
    return *text >= '0' && *text <= '9' && text[strspn(text, "0123456789.e+-")] == 0;
}

/* Whether `option` sets the parameter: its value as for a command line. */
static bool takes(const struct dml_param *param, const char *option, char *value, size_t size) {
    size_t length = strlen(param->name);
    bool named = strncmp(option, param->name, length) == 0;
    const char *rest = named ? option + length : "";
    switch (param->type) {
    case DML_PARAM_FLAG:
        snprintf(value, size, "true");
        return named && !*rest;
    case DML_PARAM_CHOICE: /* the first choice is the default */
        snprintf(value, size, "%s", option);
        for (const char *const *choice = param->choices + 1; *choice; choice++)
            if (strcmp(*choice, option) == 0)
                return true;
        return false;
    case DML_PARAM_INT:
    case DML_PARAM_FLOAT:
        if (named && !*rest && has_lone_name(param)) {
            snprintf(value, size, "%.0f", param->min);
            return true;
        }
        snprintf(value, size, "%s", rest);
        return named && is_number(param, rest);
    default:
        return false;
    }
}

/* Whether the value is within the parameter's bounds. */
static bool fits(const struct dml_param *param, const char *value) {
    if (param->type != DML_PARAM_INT && param->type != DML_PARAM_FLOAT)
        return true;
    char *end;
    double number = strtod(value, &end);
    bool bounded = param->min != 0 || param->max != 0;
    bool low = param->above_min ? number <= param->min : number < param->min;
    return !*end && (!bounded || (!low && number <= param->max));
}

static const struct dml_param *find(const struct dml_param_table *table, const char *option,
                                    char *value, size_t size) {
    for (size_t i = 0; i < table->count; i++)
        if (takes(&table->params[i], option, value, size))
            return fits(&table->params[i], value) ? &table->params[i] : NULL;
    return NULL;
}

bool dml_backbone_has_option(const struct dml_param_table *table, const char *option,
                             size_t length) {
    char text[OPTION], value[OPTION];
    snprintf(text, sizeof text, "%.*s", (int)length, option);
    return length < sizeof text && find(table, text, value, sizeof value);
}

static void add_text(const char *before, const char *separator, const char *name,
                     const char *number, char *out, size_t size) {
    size_t used = strlen(out);
    snprintf(out + used, size - used, "%s%s%s%s", used ? separator : "", before, name, number);
}

void dml_backbone_options_text(const struct dml_param_table *table, const char *before,
                               const char *separator, char *out, size_t size) {
    *out = 0;
    for (size_t i = 0; table && i < table->count; i++) {
        const struct dml_param *param = &table->params[i];
        char bounds[80], number[96];
        dml_param_bounds_text(param, bounds, sizeof bounds);
        if (has_lone_name(param)) /* a name has no signs */
            snprintf(bounds, sizeof bounds, "1 to %.10g", param->max);
        snprintf(number, sizeof number, *bounds ? "X (%s)" : "X", bounds);
        if (param->type == DML_PARAM_FLAG || has_lone_name(param))
            add_text(before, separator, param->name, "", out, size);
        if (param->type == DML_PARAM_INT || param->type == DML_PARAM_FLOAT)
            add_text(before, separator, param->name, number, out, size);
        for (int c = 1; param->choices && param->choices[c]; c++)
            add_text(before, separator, param->choices[c], "", out, size);
    }
}

static enum dml_status refuse(const char *name, const struct dml_param_table *table,
                              const char *option) {
    char known[700];
    if (!table)
        return dml_fail(DML_ERROR_USAGE, "%s has no option '_%s': it has none", name, option);
    dml_backbone_options_text(table, "_", ", ", known, sizeof known);
    return dml_fail(DML_ERROR_USAGE, "%s has no option '_%s' (%s)", name, option, known);
}

enum dml_status dml_backbone_read_options(const char *name, const struct dml_param_table *table,
                                          const char *text, struct dml_params **out) {
    char(*given)[OPTION] = dml_alloc(table ? table->count : 1, sizeof *given);
    *out = NULL;
    enum dml_status status = given ? DML_OK : DML_ERROR_MEMORY;
    if (!status && table)
        status = dml_params_new(out);
    if (!status && table)
        status = dml_params_add(*out, table);
    while (!status && *text) {
        size_t length = strcspn(++text, "_");
        char option[OPTION], value[OPTION], flag[2 * OPTION + 8], *word = flag;
        snprintf(option, sizeof option, "%.*s", (int)length, text);
        text += length;
        const struct dml_param *param = table ? find(table, option, value, sizeof value) : NULL;
        if (!param) {
            status = refuse(name, table, option);
            break;
        }
        char *before = given[param - table->params];
        if (*before && strcmp(before, option) != 0)
            status = dml_fail(DML_ERROR_USAGE,
                              "_%s and _%s are two values of one option (--pool and the flags of "
                              "the head add theirs)",
                              before, option);
        snprintf(before, OPTION, "%s", option);
        snprintf(flag, sizeof flag, "--%.*s=%s", OPTION - 1, param->name, value);
        if (!status)
            status = dml_params_parse(*out, 1, &word);
    }
    free(given);
    if (status) {
        dml_params_free(*out);
        *out = NULL;
    }
    return status;
}
