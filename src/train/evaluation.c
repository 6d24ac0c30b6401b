#include "train/evaluation.h"

#include "backends/cuda/ranks.h"
#include "base/files.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/progress.h"
#include "tracking/contact_sheet.h"
#include "train/checkpoint.h"
#include "train/embedding.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const part_names[DML_RECORD_PARTS] = {"Test",     "Val",     "Train",
                                                         "Test_EMA", "Val_EMA", "Train_EMA"};

/* Metrics to compute: those to report, then those that only decide on checkpoints. */
static enum dml_status metric_names(const struct dml_evaluation_flags *flags, const char ***names,
                                    size_t *count) {
    const struct dml_strings *asked = &flags->evaluation_metrics, *stored = &flags->storage_metrics;
    *names = dml_alloc(asked->count + stored->count, sizeof **names);
    *count = 0;
    if (!*names)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < asked->count + stored->count; i++) {
        const char *name = i < asked->count ? asked->items[i] : stored->items[i - asked->count];
        bool seen = false;
        for (size_t j = 0; j < *count; j++)
            seen = seen || strcmp((*names)[j], name) == 0;
        if (!seen)
            (*names)[(*count)++] = name;
    }
    return DML_OK;
}

static void show_progress(void *data, double share, const char *what) {
    struct dml_progress *progress = data;
    dml_progress_note(progress, "%s", what);
    dml_progress_update(progress, (size_t)(share * 100));
}

static enum dml_status measure(const struct dml_run_evaluation *v, const struct dml_experiment *e,
                               const struct dml_part *part, const char *name,
                               const float *embeddings, const char *const *names, size_t count,
                               struct dml_metric_value *values) {
    const struct dml_evaluation_set set = {.n = part->images,
                                           .dim = dml_network_dim(e->network),
                                           .embeddings = embeddings,
                                           .labels = part->labels,
                                           .groups = part->sequences,
                                           .is_query = part->is_query,
                                           .is_gallery = part->is_gallery};
    struct dml_progress progress;
    char title[40];
    snprintf(title, sizeof title, "%s metrics", name);
    dml_progress_start(&progress, title, "percent", 100);
    progress.brief = true;
    const struct dml_evaluation_options options = {
        .progress = show_progress, .data = &progress, .counter = cuda_ranker_counter(v->ranker)};
    enum dml_status status = dml_evaluate(&set, names, count, &options, values);
    if (!status)
        dml_progress_end(&progress);
    return status;
}

static const struct dml_metric_value *find_value(const struct dml_metric_value *values,
                                                 size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(values[i].name, name) == 0)
            return &values[i];
    return NULL;
}

static char *metrics_json(const char *part, const struct dml_metric_value *values, size_t count) {
    cJSON *root = cJSON_CreateObject(), *object = cJSON_AddObjectToObject(root, part);
    bool complete = object != NULL;
    for (size_t i = 0; i < count && complete; i++)
        complete = dml_note_number(object, values[i].name, values[i].value);
    char *text = complete ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    if (!text)
        dml_fail(DML_ERROR_MEMORY, "out of memory: a checkpoint's metrics");
    return text;
}

/* Writes a checkpoint for every storage metric that improved; *improved is about the first one. */
static enum dml_status store_improvements(struct dml_run_evaluation *v,
                                          const struct dml_experiment *e, const char *folder,
                                          const char *part, const struct dml_metric_value *values,
                                          uint64_t epoch, bool *improved) {
    const struct dml_strings *stored = &e->evaluation->storage_metrics;
    enum dml_status status = DML_OK;
    *improved = false;
    for (size_t i = 0; !status && i < stored->count; i++) {
        const char *metric = stored->items[i];
        double value = find_value(values, v->value_count, metric)->value;
        bool better;
        status = dml_bests_take(&v->bests, part, metric, value, epoch, &better);
        if (status || !better)
            continue;
        *improved = *improved || i == 0;
        char *path =
            dml_format("%s/checkpoint_%s_discriminative_%s.safetensors", folder, part, metric);
        char *json = metrics_json(part, values, v->value_count);
        status = path && json ? dml_checkpoint_save(e, path, epoch + 1, json) : DML_ERROR_MEMORY;
        free(path);
        free(json);
        if (strcmp(part, "Test") == 0 && i == 0)
            snprintf(v->best_text, sizeof v->best_text, ", best %s %.4f", metric, value);
    }
    return status;
}

/* What rank 0 does with the embeddings of a part: metrics, checkpoints, the contact sheet. `which`
 * is the index of the part's name. */
static enum dml_status judge_part(struct dml_run_evaluation *v, const struct dml_experiment *e,
                                  int which, const struct dml_part *part, const float *embeddings,
                                  const char *const *names, const char *folder, uint64_t epoch) {
    const char *name = part_names[which];
    bool improved;
    enum dml_status status =
        measure(v, e, part, name, embeddings, names, v->value_count, v->values[which]);
    if (!status)
        status = store_improvements(v, e, folder, name, v->values[which], epoch, &improved);
    if (!status && improved && which == DML_EVALUATE_TEST && part->images > 1) {
        v->contact_sheet = dml_path_join(folder, "sample_recoveries.png");
        status = !v->contact_sheet ? DML_ERROR_MEMORY
                                   : dml_contact_sheet_write(v->contact_sheet, part, embeddings,
                                                             dml_network_dim(e->network),
                                                             (uint64_t)e->training->seed);
    }
    return status;
}

/* `loader` gives the images of the part. */
static enum dml_status evaluate_part(struct dml_run_evaluation *v, const struct dml_experiment *e,
                                     int which, const struct dml_part *part,
                                     struct dml_loader *loader, const char *const *names,
                                     const char *folder, const volatile sig_atomic_t *stop,
                                     uint64_t epoch) {
    size_t dim = dml_network_dim(e->network);
    float *embeddings = dml_alloc_aligned(part->images * dim, sizeof *embeddings);
    v->values[which] = dml_alloc(v->value_count, sizeof **v->values);
    if (!embeddings || !v->values[which]) {
        free(embeddings);
        return DML_ERROR_MEMORY;
    }
    char title[40];
    snprintf(title, sizeof title, "%s embeddings", part_names[which]);
    enum dml_status status = dml_embed_images(e->network, loader, part->images, title, stop,
                                              e->comm, DML_EMBEDDED_AT_ROOT, embeddings);
    if (!status)
        status = dml_comm_alone_begin(e->comm);
    if (!status && e->comm->rank == 0)
        status = judge_part(v, e, which, part, embeddings, names, folder, epoch);
    status = dml_comm_alone_end(e->comm, status);
    free(embeddings);
    return status;
}

/* Evaluates all parts; their names start at `first`. */
static enum dml_status evaluate_parts(struct dml_run_evaluation *v, const struct dml_experiment *e,
                                      int first, const char *const *names, const char *folder,
                                      const volatile sig_atomic_t *stop,
                                      struct dml_epoch_record *record) {
    const struct dml_part *const parts[DML_EVALUATE_PARTS] = {
        &e->dataset.testing, &e->dataset.validation, &e->dataset.training};
    enum dml_status status = DML_OK;
    for (int i = 0; !status && i < DML_EVALUATE_PARTS; i++) {
        if (!e->eval_loaders[i])
            continue;
        status = evaluate_part(v, e, first + i, parts[i], e->eval_loaders[i], names, folder, stop,
                               record->epoch);
        record->eval_images += parts[i]->images;
        if (e->comm->rank == 0)
            record->parts[record->part_count++] = (struct dml_part_record){
                part_names[first + i], v->values[first + i], v->value_count};
    }
    return status;
}

/* The same with the running average in place of the weights. */
static enum dml_status evaluate_average(struct dml_run_evaluation *v,
                                        const struct dml_experiment *e, const char *const *names,
                                        const char *folder, const volatile sig_atomic_t *stop,
                                        struct dml_epoch_record *record) {
    enum dml_status status = dml_network_exchange(e->network);
    if (status)
        return status;
    status = evaluate_parts(v, e, DML_EVALUATE_PARTS, names, folder, stop, record);
    enum dml_status back = dml_network_exchange(e->network);
    return status ? status : back;
}

enum dml_status dml_run_evaluate(struct dml_run_evaluation *v, const struct dml_experiment *e,
                                 const char *folder, const volatile sig_atomic_t *stop,
                                 struct dml_epoch_record *record) {
    double started = dml_now();
    const char **names;
    if (e->evaluation->evaluate_on_gpu && !v->ranker_tried && e->comm->rank == 0)
        v->ranker = cuda_ranker_open((int)e->setup->gpu.items[0]);
    v->ranker_tried = true;
    enum dml_status status = metric_names(e->evaluation, &names, &v->value_count);
    if (!status)
        status = evaluate_parts(v, e, 0, names, folder, stop, record);
    if (!status && e->learner.flags->ema > 0)
        status = evaluate_average(v, e, names, folder, stop, record);
    record->eval_seconds = dml_now() - started;
    record->contact_sheet = v->contact_sheet;
    free(names);
    return status;
}

void dml_run_evaluation_release(struct dml_run_evaluation *v) {
    for (int i = 0; i < DML_RECORD_PARTS; i++) {
        if (v->values[i])
            dml_metric_values_free(v->values[i], v->value_count);
        free(v->values[i]);
        v->values[i] = NULL;
    }
    free(v->contact_sheet);
    v->contact_sheet = NULL;
}

void dml_run_evaluation_close(struct dml_run_evaluation *v) {
    dml_run_evaluation_release(v);
    dml_bests_free(&v->bests);
    cuda_ranker_close(v->ranker);
    *v = (struct dml_run_evaluation){0};
}

const char *dml_run_evaluation_best_text(const struct dml_run_evaluation *v) {
    return v->best_text;
}

char *dml_run_evaluation_bests(const struct dml_run_evaluation *v) {
    cJSON *list = cJSON_CreateArray();
    bool complete = list != NULL;
    for (size_t i = 0; i < v->bests.count && complete; i++) {
        const struct dml_best *best = &v->bests.items[i];
        if (isnan(best->best))
            continue;
        cJSON *item = cJSON_CreateObject();
        complete = item && cJSON_AddItemToArray(list, item) &&
                   cJSON_AddStringToObject(item, "part", best->part) &&
                   cJSON_AddStringToObject(item, "metric", best->metric) &&
                   dml_note_number(item, "value", best->best) &&
                   dml_note_number(item, "epoch", (double)best->epoch);
    }
    char *text = complete ? cJSON_PrintUnformatted(list) : NULL;
    cJSON_Delete(list);
    if (!text)
        dml_fail(DML_ERROR_MEMORY, "out of memory: a state's best values");
    return text;
}

enum dml_status dml_run_evaluation_restore(struct dml_run_evaluation *v, const char *path,
                                           const char *json) {
    cJSON *list, *item;
    enum dml_status status =
        dml_json_parse(json, strlen(json), &list, "%s: its best values cannot be read", path);
    cJSON_ArrayForEach(item, list) {
        const cJSON *part = cJSON_GetObjectItem(item, "part");
        const cJSON *metric = cJSON_GetObjectItem(item, "metric");
        const cJSON *value = cJSON_GetObjectItem(item, "value");
        uint64_t epoch;
        if (!cJSON_IsString(part) || !cJSON_IsString(metric) || !cJSON_IsNumber(value) ||
            !dml_json_count(cJSON_GetObjectItem(item, "epoch"), &epoch))
            continue;
        status = dml_bests_restore_one(&v->bests, part->valuestring, metric->valuestring,
                                       value->valuedouble, epoch);
        if (status)
            break;
    }
    cJSON_Delete(list);
    return status;
}
