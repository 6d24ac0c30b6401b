#include "params/internal.h"

#include "base/memory.h"
#include "base/messages.h"
#include "base/suggest.h"

#include <stdlib.h>
#include <string.h>

static bool is_flag(const char *word) {
    return strncmp(word, "--", 2) == 0 && word[2];
}

static enum dml_status unknown_flag(const struct dml_params *params, const char *name) {
    struct dml_suggestion nearest = dml_suggestion_start(name);
    for (size_t g = 0; g < params->count; g++)
        for (size_t i = 0; i < params->groups[g].table->count; i++)
            dml_suggestion_offer(&nearest, params->groups[g].table->params[i].name);
    if (nearest.best)
        return dml_fail(DML_ERROR_USAGE, "unknown flag --%s; did you mean --%s?", name,
                        nearest.best);
    return dml_fail(DML_ERROR_USAGE, "unknown flag --%s", name);
}

/* The parameter called `name`, or the only one whose name begins with it. */
static enum dml_status resolve(const struct dml_params *params, const char *name,
                               struct dml_param_place *place) {
    if (dml_params_find(params, name, place))
        return DML_OK;
    enum { SHOWN = 6 };
    char matches[400] = "";
    size_t count = 0, used = 0, length = strlen(name);
    for (size_t g = 0; g < params->count; g++) {
        const struct dml_param_table *table = params->groups[g].table;
        for (size_t i = 0; i < table->count; i++) {
            if (strncmp(table->params[i].name, name, length) != 0)
                continue;
            count++;
            *place = (struct dml_param_place){&params->groups[g], i};
            if (count <= SHOWN && used < sizeof matches)
                used += (size_t)snprintf(matches + used, sizeof matches - used, " %s%s",
                                         dml_flag_dashes(), table->params[i].name);
        }
    }
    if (count == 0)
        return unknown_flag(params, name);
    if (count > 1)
        return count > SHOWN
                   ? dml_fail(DML_ERROR_USAGE, "--%s is ambiguous: it could be%s and %zu more",
                              name, matches, count - SHOWN)
                   : dml_fail(DML_ERROR_USAGE, "--%s is ambiguous: it could be%s", name, matches);
    return DML_OK;
}

/* Where no value means that there is none, an empty one, as of a variable that is not set, would
 * silently do the same. */
static enum dml_status assign(struct dml_param_place place, size_t count,
                              const char *const *values) {
    const struct dml_param *param = &place.group->table->params[place.index];
    if (param->type == DML_PARAM_STRING && !param->fallback && !*values[0])
        return dml_fail(DML_ERROR_USAGE, "--%s: its value is empty", param->name);
    enum dml_status status = dml_param_assign(param, place.group->options, count, values);
    if (!status)
        place.group->given[place.index] = true;
    return status;
}

/* Reads the flag argv[0] with the values after it; *taken counts both. */
static enum dml_status parse_flag(struct dml_params *params, int argc, char *const *argv,
                                  int *taken) {
    *taken = 1;
    if (!is_flag(argv[0]))
        return dml_fail(DML_ERROR_USAGE, "'%s' is not a flag (flags begin with --)", argv[0]);
    char *name = dml_strdup(argv[0] + 2);
    if (!name)
        return DML_ERROR_MEMORY;
    char *equals = strchr(name, '=');
    if (equals)
        *equals = 0;
    struct dml_param_place place;
    enum dml_status status = resolve(params, name, &place);
    if (!status && equals) {
        const char *value = equals + 1;
        status = assign(place, 1, &value);
    } else if (!status) {
        const struct dml_param *param = &place.group->table->params[place.index];
        int most = param->type == DML_PARAM_FLAG ? 0 : param->type < DML_PARAM_INTS ? 1 : argc;
        while (*taken <= most && *taken < argc && !is_flag(argv[*taken]))
            ++*taken;
        if (most == 0 && argc > 1 && !is_flag(argv[1]))
            status = dml_fail(DML_ERROR_USAGE, "--%s is a switch and takes no value: '%s'",
                              param->name, argv[1]);
        else if (most > 0 && *taken == 1)
            status = dml_fail(DML_ERROR_USAGE, "--%s needs a value", param->name);
        else
            status = assign(place, (size_t)(*taken - 1), (const char *const *)argv + 1);
    }
    free(name);
    return status;
}

enum dml_status dml_params_parse(struct dml_params *params, int argc, char *const *argv) {
    enum dml_status status = DML_OK;
    for (int at = 0, taken; !status && at < argc; at += taken)
        status = parse_flag(params, argc - at, argv + at, &taken);
    return status;
}

enum dml_status dml_params_parse_text(struct dml_params *params, const char *text) {
    struct dml_words words;
    enum dml_status status = dml_words_split(text, &words);
    if (status)
        return status;
    status = dml_params_parse(params, (int)words.count, words.items);
    dml_words_free(&words);
    return status;
}
