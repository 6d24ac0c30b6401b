#include "base/files.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/text.h"
#include "tracking/best.h"
#include "tracking/tracking.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char tracker_name[] = "summary.json";

/* summary.json in the run's folder: rewritten whole after every epoch, so that a killed run leaves
 * the one of its last epoch. Times and bests cover a resumed run from its start. */

struct summary {
    const struct dml_run *run;
    char *path;
    struct dml_bests bests;
    uint64_t epochs; /* done */
    double started, train_seconds, eval_seconds;
    size_t train_images, eval_images, replaced_images;
    double last_loss, best_loss;
    uint64_t best_loss_epoch;
};

static void destroy(struct summary *summary) {
    dml_bests_free(&summary->bests);
    free(summary->path);
    free(summary);
}

static double seconds_of(const cJSON *note, const char *name) {
    double value = dml_note_value(note, name);
    return value >= 0 ? value : 0;
}

static enum dml_status take_up(struct summary *summary, const cJSON *note) {
    if (!note)
        return DML_OK;
    summary->epochs = dml_note_count(note, "epochs");
    summary->started -= seconds_of(note, "seconds");
    summary->train_seconds = seconds_of(note, "train_seconds");
    summary->eval_seconds = seconds_of(note, "eval_seconds");
    summary->train_images = dml_note_count(note, "train_images");
    summary->eval_images = dml_note_count(note, "eval_images");
    summary->replaced_images = dml_note_count(note, "replaced_images");
    summary->last_loss = dml_note_value(note, "last_loss");
    summary->best_loss = dml_note_value(note, "best_loss");
    summary->best_loss_epoch = dml_note_count(note, "best_loss_epoch");
    return dml_bests_restore(&summary->bests, note);
}

static enum dml_status summary_sync(void *state, cJSON *note) {
    struct summary *summary = state;
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"epochs", (double)summary->epochs},
                   {"seconds", dml_now() - summary->started},
                   {"train_seconds", summary->train_seconds},
                   {"eval_seconds", summary->eval_seconds},
                   {"train_images", (double)summary->train_images},
                   {"eval_images", (double)summary->eval_images},
                   {"replaced_images", (double)summary->replaced_images},
                   {"last_loss", summary->last_loss},
                   {"best_loss", summary->best_loss},
                   {"best_loss_epoch", (double)summary->best_loss_epoch}};
    bool complete = true;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0] && complete; i++)
        complete = dml_note_number(note, numbers[i].name, numbers[i].value);
    return dml_note_status(complete && dml_bests_note(&summary->bests, note));
}

static enum dml_status summary_open(const struct dml_run *run, void **state) {
    struct summary *summary = dml_alloc(1, sizeof *summary);
    *state = summary;
    if (!summary)
        return DML_ERROR_MEMORY;
    summary->run = run;
    summary->started = dml_now();
    summary->last_loss = summary->best_loss = NAN;
    summary->path = dml_path_join(run->folder, "summary.json");
    enum dml_status status = summary->path ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = take_up(summary, dml_run_note(run, tracker_name));
    if (status) {
        destroy(summary);
        *state = NULL;
    }
    return status;
}

/* False here and below: there was no memory for it. */
/* `epoch` is from 0; people count from 1. */
static bool last_and_best(cJSON *parent, const char *name, double last, double best,
                          uint64_t epoch) {
    cJSON *object = cJSON_AddObjectToObject(parent, name);
    return object && dml_note_number(object, "last", last) &&
           dml_note_number(object, "best", best) &&
           dml_note_number(object, "best_epoch", isfinite(best) ? (double)epoch + 1 : NAN);
}

static bool add_metrics(cJSON *root, const struct dml_bests *bests) {
    cJSON *metrics = cJSON_AddObjectToObject(root, "metrics");
    bool complete = metrics != NULL;
    for (size_t i = 0; i < bests->count && complete; i++) {
        const struct dml_best *best = &bests->items[i];
        cJSON *part = cJSON_GetObjectItem(metrics, best->part);
        if (!part)
            part = cJSON_AddObjectToObject(metrics, best->part);
        complete = part && last_and_best(part, best->metric, best->last, best->best, best->epoch);
    }
    return complete;
}

/* JSON is UTF-8; anything else in a name is escaped. */
static bool text(cJSON *object, const char *name, const char *value) {
    char *escaped = dml_text_escape(value);
    bool added = escaped && cJSON_AddStringToObject(object, name, escaped);
    free(escaped);
    return added;
}

static bool add_times(cJSON *root, const struct summary *summary) {
    cJSON *seconds = cJSON_AddObjectToObject(root, "seconds");
    cJSON *rate = cJSON_AddObjectToObject(root, "images_per_second");
    return seconds && rate && dml_note_number(seconds, "total", dml_now() - summary->started) &&
           dml_note_number(seconds, "training", summary->train_seconds) &&
           dml_note_number(seconds, "evaluation", summary->eval_seconds) &&
           dml_note_number(rate, "training",
                           (double)summary->train_images / summary->train_seconds) &&
           dml_note_number(rate, "evaluation",
                           (double)summary->eval_images / summary->eval_seconds);
}

static bool add_all(cJSON *root, const struct summary *summary, const char *status_name,
                    const char *error) {
    return cJSON_AddStringToObject(root, "status", status_name) &&
           (!error || text(root, "error", error)) && text(root, "dataset", summary->run->dataset) &&
           text(root, "savename", summary->run->savename) &&
           dml_note_number(root, "seed", (double)summary->run->seed) &&
           dml_note_number(root, "epochs", (double)summary->epochs) && add_times(root, summary) &&
           dml_note_number(root, "replaced_images", (double)summary->replaced_images) &&
           last_and_best(root, "loss", summary->last_loss, summary->best_loss,
                         summary->best_loss_epoch) &&
           add_metrics(root, &summary->bests);
}

static enum dml_status write_summary(const struct summary *summary, const char *status_name,
                                     const char *error) {
    cJSON *root = cJSON_CreateObject();
    char *json = root && add_all(root, summary, status_name, error) ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (!json)
        return dml_fail(DML_ERROR_MEMORY, "%s: out of memory", summary->path);
    enum dml_status status = dml_write_file(summary->path, json, strlen(json));
    free(json);
    return status;
}

static enum dml_status summary_epoch(void *state, const struct dml_epoch_record *record) {
    struct summary *summary = state;
    summary->epochs = record->epoch + 1;
    summary->train_seconds += record->train_seconds;
    summary->eval_seconds += record->eval_seconds;
    summary->train_images += record->train_images;
    summary->eval_images += record->eval_images;
    summary->replaced_images =
        (size_t)dml_named_value(record->values, record->value_count, "replaced_images");
    summary->last_loss = record->loss;
    if (!(record->loss >= summary->best_loss)) {
        summary->best_loss = record->loss;
        summary->best_loss_epoch = record->epoch;
    }
    enum dml_status status = dml_bests_update(&summary->bests, record);
    return status ? status : write_summary(summary, "running", NULL);
}

static enum dml_status summary_close(void *state, enum dml_run_end end, const char *error) {
    static const char *const names[] = {"finished", "interrupted", "failed"};
    struct summary *summary = state;
    enum dml_status status = write_summary(summary, names[end], error);
    destroy(summary);
    return status;
}

const struct dml_tracker dml_tracker_summary = {.name = tracker_name,
                                                .open = summary_open,
                                                .epoch = summary_epoch,
                                                .sync = summary_sync,
                                                .close = summary_close};
