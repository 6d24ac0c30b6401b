#include "base/files.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/number.h"
#include "base/progress.h"
#include "base/stream.h"
#include "dml/params_json.h"
#include "dml/rng.h"
#include "tracking/best.h"
#include "tracking/names.h"
#include "tracking/process.h"
#include "tracking/protobuf.h"
#include "tracking/tracking.h"
#include "tracking/wandb_log.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char tracker_name[] = "W&B";

/* A W&B offline run, <save_path>/wandb/offline-run-DATE_TIME-ID/run-ID.wandb: the records that
 * W&B's own client writes, so that `wandb sync` sends it. Every record is on disk when the call
 * returns. Field numbers are those of wandb/proto/wandb_internal.proto. */
enum record_field {
    RECORD_NUM = 1,
    RECORD_HISTORY = 2,
    RECORD_SUMMARY = 3,
    RECORD_CONFIG = 5,
    RECORD_RUN = 17,
    RECORD_EXIT = 18,
    RECORD_HEADER = 21,
    RECORD_INFO = 200,
};
enum { ITEM_KEY = 1, ITEM_NESTED_KEY = 2, ITEM_VALUE = 16 }; /* history, summary, config alike */

enum { ID_SIZE = 9 };
static const char offline[] = "offline-run-";

struct wandb {
    struct dml_wandb_log log;
    char *folder, *sync_log;
    char id[ID_SIZE];
    uint64_t records;
    double started;
    struct dml_bytes item, message, record; /* reused from record to record */
    struct sum *sums;                       /* of a step's values over the steps of this epoch */
    size_t sum_count, sum_capacity;
    uint64_t steps;
};

struct sum {
    char *name; /* its own */
    double value;
};

/* Eight letters and digits, as W&B names runs: from the run's identity, so that what an earlier
 * part of the run left is found. A run without one is named after the time and the process. */
static void make_id(char id[ID_SIZE], const struct dml_run *run) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    const char *source = run->identity ? run->identity : run->folder;
    uint64_t key = 0, process = 0;
    if (!run->identity) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        key = (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec;
        process = (uint64_t)getpid();
    }
    for (const char *at = source; *at; at++)
        key = key * 31 + (unsigned char)*at;
    struct dml_rng rng = dml_rng_make(key, DML_PURPOSE_OTHER, process, 0);
    for (int i = 0; i + 1 < ID_SIZE; i++)
        id[i] = letters[dml_rng_below(&rng, sizeof letters - 1)];
    id[ID_SIZE - 1] = 0;
}

/* Numbers the record whose content is `message`, and appends it. */
static enum dml_status add_record(struct wandb *wandb, enum record_field field) {
    wandb->record.size = 0;
    dml_pb_integer(&wandb->record, RECORD_NUM, ++wandb->records);
    dml_pb_message(&wandb->record, (int)field, &wandb->message);
    dml_pb_string(&wandb->item, 1, wandb->id); /* _RecordInfo.stream_id */
    dml_pb_message(&wandb->record, RECORD_INFO, &wandb->item);
    enum dml_status status = dml_bytes_status(&wandb->record);
    return status ? status : dml_wandb_log_add(&wandb->log, wandb->record.data, wandb->record.size);
}

static void add_item(struct wandb *wandb, const char *key, const char *below, const char *json) {
    dml_pb_string(&wandb->item, ITEM_NESTED_KEY, key);
    if (below)
        dml_pb_string(&wandb->item, ITEM_NESTED_KEY, below);
    dml_pb_string(&wandb->item, ITEM_VALUE, json);
    dml_pb_message(&wandb->message, 1, &wandb->item);
}

/* W&B's JSON has Python's words for numbers that are not finite. */
static const char *json_number(double value, char text[DML_NUMBER_SIZE]) {
    if (isfinite(value))
        return dml_number_text(value, text);
    return isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

static void add_number(struct wandb *wandb, const char *key, double value) {
    char text[DML_NUMBER_SIZE];
    add_item(wandb, key, NULL, json_number(value, text));
}

static enum dml_status add_header(struct wandb *wandb) {
    dml_pb_string(&wandb->item, 1, "dml");    /* VersionInfo.producer */
    dml_pb_string(&wandb->item, 2, "0.70.0"); /* .min_consumer, what W&B's client asks for */
    dml_pb_message(&wandb->message, 1, &wandb->item);
    return add_record(wandb, RECORD_HEADER);
}

static enum dml_status add_run(struct wandb *wandb, const struct dml_run *run) {
    char host[128] = "";
    struct timespec now;
    gethostname(host, sizeof host - 1);
    clock_gettime(CLOCK_REALTIME, &now);
    dml_pb_string(&wandb->message, 1, wandb->id);
    dml_pb_string(&wandb->message, 3, run->project);
    dml_pb_string(&wandb->message, 6, run->group);
    dml_pb_string(&wandb->message, 8, run->savename); /* display_name */
    dml_pb_string(&wandb->message, 13, host);
    dml_pb_integer(&wandb->item, 1, (uint64_t)now.tv_sec);
    dml_pb_integer(&wandb->item, 2, (uint64_t)now.tv_nsec);
    dml_pb_message(&wandb->message, 17, &wandb->item); /* start_time */
    return add_record(wandb, RECORD_RUN);
}

static enum dml_status add_config(struct wandb *wandb, const struct dml_params *params) {
    char *text;
    enum dml_status status = dml_params_to_json(params, &text);
    if (status)
        return status;
    cJSON *root = cJSON_Parse(text), *item;
    free(text);
    wandb->message.failed = wandb->message.failed || !root;
    cJSON_ArrayForEach(item, root) {
        char *value = cJSON_PrintUnformatted(item);
        wandb->message.failed = wandb->message.failed || !value;
        dml_pb_string(&wandb->item, ITEM_KEY, item->string);
        dml_pb_string(&wandb->item, ITEM_VALUE, value ? value : "null");
        dml_pb_message(&wandb->message, 1, &wandb->item);
        free(value);
    }
    cJSON_Delete(root);
    return add_record(wandb, RECORD_CONFIG);
}

static void free_sums(struct wandb *wandb) {
    for (size_t i = 0; i < wandb->sum_count; i++)
        free(wandb->sums[i].name);
    wandb->sum_count = 0;
}

/* The sum of that name, which starts as `first`. */
static enum dml_status find_sum(struct wandb *wandb, const char *name, double first, double **out) {
    for (size_t i = 0; i < wandb->sum_count; i++)
        if (strcmp(wandb->sums[i].name, name) == 0) {
            *out = &wandb->sums[i].value;
            return DML_OK;
        }
    enum dml_status status =
        dml_grow(&wandb->sums, &wandb->sum_capacity, wandb->sum_count + 1, sizeof *wandb->sums);
    struct sum sum = {status ? NULL : dml_strdup(name), first};
    if (!sum.name)
        return DML_ERROR_MEMORY;
    wandb->sums[wandb->sum_count] = sum;
    *out = &wandb->sums[wandb->sum_count++].value;
    return DML_OK;
}

static void destroy(struct wandb *wandb) {
    dml_wandb_log_close(&wandb->log);
    dml_bytes_free(&wandb->item);
    dml_bytes_free(&wandb->message);
    dml_bytes_free(&wandb->record);
    free_sums(wandb);
    free(wandb->sums);
    free(wandb->folder);
    free(wandb->sync_log);
    free(wandb);
}

static enum dml_status make_folder(struct wandb *wandb, const struct dml_run *run) {
    char when[32];
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(when, sizeof when, "%Y%m%d_%H%M%S", &local);
    wandb->folder = dml_format("%s/wandb/%s%s-%s", run->save_path, offline, when, wandb->id);
    char *files = wandb->folder ? dml_path_join(wandb->folder, "files") : NULL;
    enum dml_status status = files ? dml_make_folders(files) : DML_ERROR_MEMORY;
    free(files);
    return status;
}

static enum dml_status begin(struct wandb *wandb, const struct dml_run *run) {
    enum dml_status status = make_folder(wandb, run);
    char *path = status ? NULL : dml_format("%s/run-%s.wandb", wandb->folder, wandb->id);
    if (!status)
        status = path ? dml_wandb_log_open(&wandb->log, path) : DML_ERROR_MEMORY;
    free(path);
    if (!status)
        status = add_header(wandb);
    if (!status)
        status = add_run(wandb, run);
    if (!status && run->params)
        status = add_config(wandb, run->params);
    return status;
}

/* W&B's folder of all runs of a save path. */
static char *runs_folder(const struct dml_run *run) {
    return dml_path_join(run->save_path, "wandb");
}

/* Whether a folder is named like one of this run's logs. */
static bool is_own_folder(const struct wandb *wandb, const char *name) {
    size_t length = strlen(name);
    return strncmp(name, offline, strlen(offline)) == 0 && length > ID_SIZE && !strchr(name, '/') &&
           strcmp(name + length - ID_SIZE + 1, wandb->id) == 0;
}

/* Removes what a part of the run that was killed before its first state left. */
static void remove_others(const struct wandb *wandb, const struct dml_run *run, const char *own) {
    char *parent = runs_folder(run);
    DIR *entries = parent ? opendir(parent) : NULL;
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (!is_own_folder(wandb, entry->d_name) || (own && strcmp(entry->d_name, own) == 0))
            continue;
        char *file = dml_format("%s/%s/run-%s.wandb", parent, entry->d_name, wandb->id);
        char *files = dml_format("%s/%s/files", parent, entry->d_name);
        char *folder = dml_path_join(parent, entry->d_name);
        if (file && files && folder) {
            unlink(file);
            rmdir(files);
            rmdir(folder);
        }
        free(file);
        free(files);
        free(folder);
    }
    if (entries)
        closedir(entries);
    free(parent);
}

static bool note_sums(const struct wandb *wandb, cJSON *note) {
    cJSON *sums = cJSON_AddObjectToObject(note, "sums");
    bool complete = sums != NULL;
    for (size_t i = 0; i < wandb->sum_count && complete; i++)
        complete = dml_note_number(sums, wandb->sums[i].name, wandb->sums[i].value);
    return complete;
}

/* States from before there was a list of sums have two of them in the note itself. */
static enum dml_status take_up_sums(struct wandb *wandb, const cJSON *note) {
    const cJSON *sums = cJSON_GetObjectItemCaseSensitive(note, "sums"), *item;
    enum dml_status status = DML_OK;
    double *sum;
    if (!sums) {
        status = find_sum(wandb, "grad_rms", dml_note_value(note, "grad_rms"), &sum);
        return status ? status
                      : find_sum(wandb, "grad_max", dml_note_value(note, "grad_max"), &sum);
    }
    cJSON_ArrayForEach(item, sums) {
        if (!status)
            status = find_sum(wandb, item->string, dml_note_value(sums, item->string), &sum);
    }
    return status;
}

/* The log of an earlier part of the run, cut to where it was at the state; *found is false where
 * there is none. */
static enum dml_status take_up(struct wandb *wandb, const struct dml_run *run, bool *found) {
    const cJSON *note = dml_run_note(run, tracker_name);
    const cJSON *folder = cJSON_GetObjectItemCaseSensitive(note, "folder");
    uint64_t bytes = dml_note_count(note, "bytes");
    bool noted = cJSON_IsString(folder) && is_own_folder(wandb, folder->valuestring) && bytes > 0 &&
                 !run->copy_of; /* W&B has the run that this is a copy of */
    remove_others(wandb, run, noted ? folder->valuestring : NULL);
    if (!noted)
        return DML_OK;
    wandb->folder = dml_format("%s/wandb/%s", run->save_path, folder->valuestring);
    char *path = wandb->folder ? dml_format("%s/run-%s.wandb", wandb->folder, wandb->id) : NULL;
    enum dml_status status =
        path ? dml_wandb_log_take_up(&wandb->log, path, (off_t)bytes) : DML_ERROR_MEMORY;
    free(path);
    *found = !status;
    if (status == DML_ERROR_MEMORY)
        return status;
    if (status) {
        dml_warn("%s; W&B's run continues in a new file", dml_error());
        free(wandb->folder);
        wandb->folder = NULL;
        return DML_OK;
    }
    double seconds = dml_note_value(note, "seconds");
    wandb->records = dml_note_count(note, "records");
    wandb->steps = dml_note_count(note, "steps");
    wandb->started -= seconds > 0 ? seconds : 0;
    return wandb->steps ? take_up_sums(wandb, note) : DML_OK;
}

static enum dml_status wandb_sync(void *state, cJSON *note) {
    struct wandb *wandb = state;
    enum dml_status status = dml_wandb_log_sync(&wandb->log);
    if (status)
        return status;
    return dml_note_status(
        cJSON_AddStringToObject(note, "folder", strrchr(wandb->folder, '/') + 1) &&
        dml_note_number(note, "bytes", (double)wandb->log.size) &&
        dml_note_number(note, "records", (double)wandb->records) &&
        dml_note_number(note, "steps", (double)wandb->steps) &&
        dml_note_number(note, "seconds", dml_now() - wandb->started) && note_sums(wandb, note));
}

static enum dml_status wandb_open(const struct dml_run *run, void **state) {
    struct wandb *wandb = dml_alloc(1, sizeof *wandb);
    *state = NULL;
    if (!wandb)
        return DML_ERROR_MEMORY;
    wandb->log.fd = -1;
    wandb->started = dml_now();
    wandb->sync_log = dml_path_join(run->folder, "wandb_sync.log");
    make_id(wandb->id, run);
    bool found = false;
    enum dml_status status = wandb->sync_log ? DML_OK : DML_ERROR_MEMORY;
    if (!status && run->resumed)
        status = take_up(wandb, run, &found);
    if (!status && !found)
        status = begin(wandb, run);
    if (status)
        destroy(wandb);
    else
        *state = wandb;
    return status;
}
static enum dml_status wandb_step(void *state, const struct dml_step_record *record) {
    struct wandb *wandb = state;
    for (size_t i = 0; i < record->value_count; i++) {
        double *sum;
        /* the mean is unknown of a value that steps before the run was resumed did not have */
        enum dml_status status =
            find_sum(wandb, record->values[i].name, wandb->steps ? NAN : 0, &sum);
        if (status)
            return status;
        *sum += record->values[i].value;
    }
    wandb->steps++;
    return DML_OK;
}

/* A histogram whose counts are the components of the vector, as the study logs a spectrum. */
static enum dml_status add_histogram(struct wandb *wandb, const char *key,
                                     const struct dml_metric_value *value, bool logarithm) {
    char *counts = NULL, *bins = NULL, text[DML_NUMBER_SIZE];
    struct dml_stream stream;
    enum dml_status status = dml_stream_open(&stream);
    for (size_t i = 0; !status && i < value->vector_count; i++) {
        double component = (double)value->vector[i];
        if (logarithm) /* shifted to be positive; what is 0 has no logarithm and counts nothing */
            component = component > 0 ? log(component) + 20 : 0;
        fprintf(stream.file, "%c%s", i ? ',' : '[', json_number(component, text));
    }
    if (!status) {
        fputc(']', stream.file);
        status = dml_stream_close(&stream, &counts);
    }
    if (!status)
        status = dml_stream_open(&stream);
    for (size_t i = 0; !status && i <= value->vector_count; i++)
        fprintf(stream.file, "%c%zu", i ? ',' : '[', i);
    if (!status) {
        fputc(']', stream.file);
        status = dml_stream_close(&stream, &bins);
    }
    if (!status) {
        add_item(wandb, key, "_type", "\"histogram\"");
        add_item(wandb, key, "values", counts);
        add_item(wandb, key, "bins", bins);
    }
    free(counts);
    free(bins);
    return status;
}

static enum dml_status add_part(struct wandb *wandb, const struct dml_part_record *part) {
    char key[DML_NAME_SIZE];
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < part->count && !status; i++) {
        const struct dml_metric_value *value = &part->metrics[i];
        if (!dml_metric_is_vector(value)) {
            dml_metric_online_name(part->part, value->name, key);
            add_number(wandb, key, value->value);
            continue;
        }
        snprintf(key, sizeof key, "%s: discriminative_%s", part->part, value->name);
        status = add_histogram(wandb, key, value, false);
        snprintf(key, sizeof key, "%s: discriminative_LOG-%s", part->part, value->name);
        if (!status)
            status = add_histogram(wandb, key, value, true);
    }
    return status;
}

/* What both the history and the summary get. */
static enum dml_status add_values(struct wandb *wandb, const struct dml_epoch_record *record) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    enum dml_status status = DML_OK;
    add_number(wandb, "_step", (double)record->epoch);
    add_number(wandb, "_runtime", dml_now() - wandb->started);
    add_number(wandb, "_timestamp", (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    add_number(wandb, "Train: epochs", (double)record->epoch);
    add_number(wandb, "Train: loss", record->loss);
    add_number(wandb, "Train: time", record->train_seconds);
    for (size_t i = 0; i < wandb->sum_count && wandb->steps > 0; i++) {
        const struct dml_studys_name *studys = dml_studys_name_of(wandb->sums[i].name);
        char key[DML_NAME_SIZE];
        if (studys)
            snprintf(key, sizeof key, "%s: %s: %s", studys->part, studys->group, studys->column);
        else
            snprintf(key, sizeof key, "Train: step_%s", wandb->sums[i].name);
        add_number(wandb, key, wandb->sums[i].value / (double)wandb->steps);
    }
    for (size_t i = 0; i < record->value_count; i++) {
        char key[DML_NAME_SIZE];
        snprintf(key, sizeof key, "Train: %s", record->values[i].name);
        add_number(wandb, key, record->values[i].value);
    }
    for (size_t p = 0; p < record->part_count && !status; p++)
        status = add_part(wandb, &record->parts[p]);
    return status;
}

static enum dml_status wandb_epoch(void *state, const struct dml_epoch_record *record) {
    struct wandb *wandb = state;
    wandb->message.size = 0;
    enum dml_status status = add_values(wandb, record);
    if (!status)
        status = add_record(wandb, RECORD_SUMMARY);
    if (status)
        return status;
    status = add_values(wandb, record);
    dml_pb_integer(&wandb->item, 1, record->epoch); /* HistoryStep.num */
    dml_pb_message(&wandb->message, 2, &wandb->item);
    if (!status)
        status = add_record(wandb, RECORD_HISTORY);
    free_sums(wandb);
    wandb->steps = 0;
    return status;
}

/* Sends the run if W&B's program is installed, which carries on when this one has ended. */
static void sync_run(const struct wandb *wandb) {
    const char *const command[] = {"wandb", "sync", wandb->folder, NULL};
    pid_t child;
    if (dml_process_start(command, NULL, wandb->sync_log, &child) == DML_OK)
        dml_warn("wandb sync was started on %s; it reports to %s", wandb->folder, wandb->sync_log);
    else
        dml_warn("wandb is not installed here; to send the run: wandb sync %s", wandb->folder);
}

static enum dml_status wandb_close(void *state, enum dml_run_end end, const char *error) {
    (void)error;
    struct wandb *wandb = state;
    wandb->message.size = 0;
    /* W&B shows 0 as finished, 255 as killed by the user and everything else as failed. */
    dml_pb_integer(&wandb->message, 1,
                   end == DML_RUN_FINISHED      ? 0
                   : end == DML_RUN_INTERRUPTED ? 255
                                                : 1);
    dml_pb_integer(&wandb->message, 2, (uint64_t)(dml_now() - wandb->started));
    enum dml_status status = add_record(wandb, RECORD_EXIT);
    dml_wandb_log_close(&wandb->log);
    sync_run(wandb);
    destroy(wandb);
    return status;
}

const struct dml_tracker dml_tracker_wandb = {.name = tracker_name,
                                              .open = wandb_open,
                                              .step = wandb_step,
                                              .epoch = wandb_epoch,
                                              .sync = wandb_sync,
                                              .close = wandb_close};
