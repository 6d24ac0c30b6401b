#include "tracking/best.h"

#include "base/json.h"
#include "base/memory.h"
#include "base/number.h"
#include "tracking/names.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct dml_best *dml_bests_find(const struct dml_bests *bests, const char *part,
                                      const char *metric) {
    for (size_t i = 0; i < bests->count; i++)
        if (strcmp(bests->items[i].metric, metric) == 0 && strcmp(bests->items[i].part, part) == 0)
            return &bests->items[i];
    return NULL;
}

static enum dml_status obtain(struct dml_bests *bests, const char *part, const char *metric,
                              struct dml_best **out) {
    *out = (struct dml_best *)dml_bests_find(bests, part, metric);
    if (*out)
        return DML_OK;
    enum dml_status status =
        dml_grow(&bests->items, &bests->capacity, bests->count + 1, sizeof **out);
    if (status)
        return status;
    *out = &bests->items[bests->count++];
    **out = (struct dml_best){.last = NAN, .best = NAN};
    snprintf((*out)->part, sizeof(*out)->part, "%s", part);
    snprintf((*out)->metric, sizeof(*out)->metric, "%s", metric);
    return DML_OK;
}

enum dml_status dml_bests_take(struct dml_bests *bests, const char *part, const char *metric,
                               double value, uint64_t epoch, bool *better) {
    struct dml_best *best;
    *better = false;
    enum dml_status status = obtain(bests, part, metric, &best);
    if (status)
        return status;
    best->last = value;
    *better = dml_metric_better(dml_metric_order_of(metric), value, best->best);
    if (*better) {
        best->best = value;
        best->epoch = epoch;
    }
    return DML_OK;
}

enum dml_status dml_bests_restore_one(struct dml_bests *bests, const char *part, const char *metric,
                                      double value, uint64_t epoch) {
    struct dml_best *best;
    enum dml_status status = obtain(bests, part, metric, &best);
    if (status)
        return status;
    best->last = best->best = value;
    best->epoch = epoch;
    return DML_OK;
}

enum dml_status dml_bests_update(struct dml_bests *bests, const struct dml_epoch_record *record) {
    for (size_t p = 0; p < record->part_count; p++)
        for (size_t i = 0; i < record->parts[p].count; i++) {
            const struct dml_metric_value *value = &record->parts[p].metrics[i];
            const char *part = record->parts[p].part;
            struct dml_best *best;
            bool better;
            if (dml_metric_is_vector(value))
                continue;
            enum dml_status status = obtain(bests, part, value->name, &best);
            if (!status && dml_metric_order_of(value->name) == DML_METRIC_UNORDERED)
                best->last = value->value;
            else if (!status)
                status =
                    dml_bests_take(bests, part, value->name, value->value, record->epoch, &better);
            if (status)
                return status;
        }
    return DML_OK;
}

void dml_bests_free(struct dml_bests *bests) {
    free(bests->items);
    memset(bests, 0, sizeof *bests);
}

bool dml_note_number(cJSON *note, const char *name, double value) {
    char text[DML_NUMBER_SIZE]; /* every digit, where cJSON would round */
    return (isfinite(value) ? cJSON_AddRawToObject(note, name, dml_number_text(value, text))
                            : cJSON_AddNullToObject(note, name)) != NULL;
}

enum dml_status dml_note_status(bool complete) {
    return complete ? DML_OK : dml_fail(DML_ERROR_MEMORY, "out of memory: a state's notes");
}

double dml_note_value(const cJSON *note, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(note, name);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

uint64_t dml_note_count(const cJSON *note, const char *name) {
    uint64_t count = 0;
    dml_json_count(cJSON_GetObjectItemCaseSensitive(note, name), &count);
    return count;
}

bool dml_bests_note(const struct dml_bests *bests, cJSON *note) {
    cJSON *list = cJSON_AddArrayToObject(note, "bests");
    bool complete = list != NULL;
    for (size_t i = 0; i < bests->count && complete; i++) {
        const struct dml_best *best = &bests->items[i];
        cJSON *item = cJSON_CreateObject();
        complete = item && cJSON_AddItemToArray(list, item) &&
                   cJSON_AddStringToObject(item, "part", best->part) &&
                   cJSON_AddStringToObject(item, "metric", best->metric) &&
                   dml_note_number(item, "last", best->last) &&
                   dml_note_number(item, "best", best->best) &&
                   dml_note_number(item, "epoch", (double)best->epoch);
    }
    return complete;
}

enum dml_status dml_bests_restore(struct dml_bests *bests, const cJSON *note) {
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(note, "bests")) {
        const cJSON *part = cJSON_GetObjectItem(item, "part");
        const cJSON *metric = cJSON_GetObjectItem(item, "metric");
        struct dml_best *best;
        if (!cJSON_IsString(part) || !cJSON_IsString(metric) ||
            strlen(part->valuestring) >= sizeof best->part ||
            strlen(metric->valuestring) >= sizeof best->metric ||
            !(dml_note_value(item, "epoch") >= 0))
            continue;
        enum dml_status status = obtain(bests, part->valuestring, metric->valuestring, &best);
        if (status)
            return status;
        best->last = dml_note_value(item, "last");
        best->best = dml_note_value(item, "best");
        best->epoch = dml_note_count(item, "epoch");
    }
    return DML_OK;
}
