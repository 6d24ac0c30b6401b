#include "tracking/best.h"

#include "base/files.h"
#include "base/memory.h"
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

enum dml_status dml_bests_update(struct dml_bests *bests, const struct dml_epoch_record *record) {
    for (size_t p = 0; p < record->part_count; p++)
        for (size_t i = 0; i < record->parts[p].count; i++) {
            const struct dml_metric_value *value = &record->parts[p].metrics[i];
            struct dml_best *best;
            if (dml_metric_is_vector(value))
                continue;
            enum dml_status status = obtain(bests, record->parts[p].part, value->name, &best);
            if (status)
                return status;
            best->last = value->value;
            bool better = !(value->value <= best->best); /* also when there is none yet */
            if (isfinite(value->value) && better && dml_metric_larger_is_better(value->name)) {
                best->best = value->value;
                best->epoch = record->epoch;
            }
        }
    return DML_OK;
}

void dml_bests_free(struct dml_bests *bests) {
    free(bests->items);
    memset(bests, 0, sizeof *bests);
}

void dml_bests_forget(struct dml_bests *bests, uint64_t epoch) {
    for (size_t i = 0; i < bests->count; i++)
        if (bests->items[i].epoch >= epoch)
            bests->items[i].best = NAN;
}

void dml_bests_load(struct dml_bests *bests, const char *folder) {
    char *path = dml_path_join(folder, "summary.json"), *text = NULL;
    cJSON *root = NULL, *part, *metric;
    if (!path || !dml_path_exists(path) || dml_read_file(path, &text, NULL) != DML_OK)
        goto out;
    root = cJSON_Parse(text);
    cJSON_ArrayForEach(part, cJSON_GetObjectItem(root, "metrics")) {
        cJSON_ArrayForEach(metric, part) {
            const cJSON *value = cJSON_GetObjectItem(metric, "best");
            const cJSON *epoch = cJSON_GetObjectItem(metric, "best_epoch");
            struct dml_best *best;
            if (!cJSON_IsNumber(value) || !cJSON_IsNumber(epoch) || epoch->valuedouble < 0)
                continue;
            if (obtain(bests, part->string, metric->string, &best) != DML_OK)
                goto out;
            best->best = value->valuedouble;
            best->epoch = (uint64_t)epoch->valuedouble;
        }
    }
out:
    cJSON_Delete(root);
    free(text);
    free(path);
}
