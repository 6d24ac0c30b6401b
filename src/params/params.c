#include "params/internal.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum dml_status dml_params_new(struct dml_params **out) {
    *out = dml_alloc(1, sizeof **out);
    return *out ? DML_OK : DML_ERROR_MEMORY;
}

/* An empty value: setting it releases what the field owns. */
static void clear_value(const struct dml_param *param, char *options) {
    struct dml_param plain = dml_param_unbounded(param);
    if (param->type == DML_PARAM_STRING) {
        free(*(char **)(options + param->offset));
        *(char **)(options + param->offset) = NULL;
    } else if (param->type >= DML_PARAM_INTS) {
        dml_param_assign(&plain, options, 0, NULL);
        struct dml_ints *list = (struct dml_ints *)(options + param->offset);
        free(list->items); /* all lists begin with count and items */
        list->items = NULL;
    }
}

void dml_params_free(struct dml_params *params) {
    if (!params)
        return;
    for (size_t g = 0; g < params->count; g++) {
        struct dml_param_group *group = &params->groups[g];
        for (size_t i = 0; i < group->table->count; i++)
            clear_value(&group->table->params[i], group->options);
        free(group->options);
        free(group->given);
    }
    free(params->groups);
    free(params);
}

enum dml_status dml_words_split(const char *text, struct dml_words *out) {
    if (!text)
        text = "";
    out->count = 0;
    out->text = dml_strdup(text);
    out->items = dml_alloc(strlen(text) / 2 + 2, sizeof *out->items);
    if (!out->text || !out->items) {
        dml_words_free(out);
        return DML_ERROR_MEMORY;
    }
    char *rest = out->text;
    for (char *word; (word = strtok_r(rest, " \t\n", &rest));)
        out->items[out->count++] = word;
    return DML_OK;
}

void dml_words_free(struct dml_words *words) {
    free(words->text);
    free(words->items);
    *words = (struct dml_words){NULL, NULL, 0};
}

/* Defaults pass the same parser as typed values. */
static enum dml_status set_default(const struct dml_param *param, void *options) {
    struct dml_param unbounded = dml_param_unbounded(param);
    if (param->type == DML_PARAM_FLAG)
        return DML_OK;
    if (param->type == DML_PARAM_STRING) {
        const char *text = param->fallback ? param->fallback : "";
        return dml_param_assign(&unbounded, options, 1, &text);
    }
    struct dml_words words;
    enum dml_status status = dml_words_split(param->fallback, &words);
    if (status)
        return status;
    status = dml_param_assign(&unbounded, options, words.count, (const char *const *)words.items);
    dml_words_free(&words);
    return status;
}

enum dml_status dml_params_add(struct dml_params *params, const struct dml_param_table *table) {
    if (!table || dml_params_options(params, table))
        return DML_OK;
    for (size_t i = 0; i < table->count; i++)
        if (dml_params_find(params, table->params[i].name, NULL))
            return dml_fail(DML_ERROR_USAGE, "%s: the parameter --%s is declared elsewhere too",
                            table->title, table->params[i].name);
    enum dml_status status =
        dml_grow(&params->groups, &params->capacity, params->count + 1, sizeof *params->groups);
    if (status)
        return status;
    struct dml_param_group *group = &params->groups[params->count];
    group->table = table;
    group->options = dml_alloc(1, table->options_size);
    group->given = dml_alloc(table->count, sizeof *group->given);
    if (!group->options || !group->given) {
        free(group->options);
        free(group->given);
        return DML_ERROR_MEMORY;
    }
    params->count++;
    for (size_t i = 0; !status && i < table->count; i++)
        status = set_default(&table->params[i], group->options);
    return status;
}

enum dml_status dml_params_clear(struct dml_params *params, const char *name) {
    static const char *const nothing = "";
    struct dml_param_place place;
    const struct dml_param *param = dml_params_find(params, name, &place);
    if (!param)
        return dml_fail(DML_ERROR_USAGE, "there is no parameter %s", name);
    enum dml_status status = dml_param_assign(param, place.group->options, 1, &nothing);
    place.group->given[place.index] |= !status;
    return status;
}

void *dml_params_options(const struct dml_params *params, const struct dml_param_table *table) {
    for (size_t g = 0; table && g < params->count; g++)
        if (params->groups[g].table == table)
            return params->groups[g].options;
    return NULL;
}

const struct dml_param *dml_params_find(const struct dml_params *params, const char *name,
                                        struct dml_param_place *place) {
    for (size_t g = 0; g < params->count; g++) {
        const struct dml_param_table *table = params->groups[g].table;
        for (size_t i = 0; i < table->count; i++) {
            if (strcmp(table->params[i].name, name) != 0)
                continue;
            if (place)
                *place = (struct dml_param_place){&params->groups[g], i};
            return &table->params[i];
        }
    }
    return NULL;
}

static unsigned facts_of(const struct dml_param_table *table, const struct dml_param *param) {
    return table->facts | param->facts;
}

unsigned dml_params_facts(const struct dml_params *params, const char *name) {
    struct dml_param_place place;
    const struct dml_param *param = dml_params_find(params, name, &place);
    return param ? facts_of(place.group->table, param) : 0;
}

size_t dml_param_table_select(const struct dml_param_table *table, unsigned fact,
                              struct dml_param *out, size_t capacity) {
    size_t count = 0;
    for (size_t i = 0; i < table->count && count < capacity; i++)
        if (facts_of(table, &table->params[i]) & fact)
            out[count++] = table->params[i];
    return count;
}

bool dml_params_given(const struct dml_params *params, const char *name) {
    struct dml_param_place place;
    return dml_params_find(params, name, &place) && place.group->given[place.index];
}
