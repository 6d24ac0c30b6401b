#include "sweep/identity.h"

#include "base/memory.h"
#include "base/stream.h"
#include "dml/params_json.h"
#include "train/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum dml_status to_json(const struct dml_params *params, cJSON **out) {
    char *text;
    enum dml_status status = dml_params_to_json(params, &text);
    if (status)
        return status;
    *out = cJSON_Parse(text);
    free(text);
    return *out ? DML_OK : dml_fail(DML_ERROR_MEMORY, "out of memory: parameters as JSON");
}

enum dml_status dml_identity_open(struct dml_identity *identity) {
    *identity = (struct dml_identity){0};
    enum dml_status status = dml_train_params(&identity->params);
    if (!status)
        status = to_json(identity->params, &identity->defaults);
    return status;
}

void dml_identity_close(struct dml_identity *identity) {
    cJSON_Delete(identity->defaults);
    dml_params_free(identity->params);
    *identity = (struct dml_identity){0};
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum dml_status join(char **lines, size_t count, char **out) {
    struct dml_stream stream;
    enum dml_status status = dml_stream_open(&stream);
    if (status)
        return status;
    if (count > 1)
        qsort(lines, count, sizeof *lines, by_text);
    for (size_t i = 0; i < count; i++)
        fprintf(stream.file, "%s\n", lines[i]);
    return dml_stream_close(&stream, out);
}

enum dml_status dml_identity_of_json(const struct dml_identity *identity, const cJSON *params,
                                     char **out) {
    char **lines = NULL;
    size_t count = 0, capacity = 0;
    const cJSON *item;
    enum dml_status status = DML_OK;
    cJSON_ArrayForEach(item, params) {
        const cJSON *usual = cJSON_GetObjectItemCaseSensitive(identity->defaults, item->string);
        bool same_run = dml_params_facts(identity->params, item->string) & DML_PARAM_SAME_RUN;
        if (status || same_run || cJSON_Compare(item, usual, true))
            continue;
        status = dml_grow(&lines, &capacity, count + 1, sizeof *lines);
        char *value = status ? NULL : cJSON_PrintUnformatted(item);
        if (!status && (!value || !(lines[count] = dml_format("%s=%s", item->string, value))))
            status = dml_fail(DML_ERROR_MEMORY, "out of memory: parameters of a run");
        count += !status;
        free(value);
    }
    if (!status)
        status = join(lines, count, out);
    for (size_t i = 0; i < count; i++)
        free(lines[i]);
    free(lines);
    return status;
}

enum dml_status dml_identity_of_params(const struct dml_identity *identity,
                                       const struct dml_params *params, char **out) {
    cJSON *json = NULL;
    enum dml_status status = to_json(params, &json);
    if (!status)
        status = dml_identity_of_json(identity, json, out);
    cJSON_Delete(json);
    return status;
}
