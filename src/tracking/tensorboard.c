#include "base/crc.h"
#include "base/files.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/messages.h"
#include "tracking/append.h"
#include "tracking/best.h"
#include "tracking/names.h"
#include "tracking/protobuf.h"
#include "tracking/tracking.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char tracker_name[] = "TensorBoard";

/* A TensorBoard event file in the run's folder: TFRecords (length, its checksum, data, their
 * checksum) of Event messages; field numbers are those of tensorflow/core/util/event.proto and
 * framework/summary.proto. Scalars per step are "Train/step_loss", "Model Grad/L2",
 * "Model Grad/Max" and "Train/step_NAME" of every other value; everything else has the epoch as its
 * step. */
enum event_field { EVENT_TIME = 1, EVENT_STEP = 2, EVENT_VERSION = 3, EVENT_SUMMARY = 5 };
enum value_field { VALUE_TAG = 1, VALUE_SIMPLE = 2, VALUE_IMAGE = 4, VALUE_HISTOGRAM = 5 };

struct board {
    int fd;
    char *path;
    off_t size;
    struct dml_bytes inner, value, summary, event; /* reused from event to event */
};

static uint32_t masked(const void *data, size_t size) {
    uint32_t crc = dml_crc32c(0, data, size);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* Appends the event that `board->event` holds, in a single write. */
static enum dml_status add_event(struct board *board) {
    struct dml_bytes out = {0};
    uint64_t length = board->event.size;
    uint32_t length_crc = masked(&length, sizeof length);
    uint32_t crc = masked(board->event.data, board->event.size);
    dml_bytes_add(&out, &length, sizeof length);
    dml_bytes_add(&out, &length_crc, sizeof length_crc);
    dml_bytes_add(&out, board->event.data, board->event.size);
    dml_bytes_add(&out, &crc, sizeof crc);
    out.failed = out.failed || board->event.failed;
    enum dml_status status = dml_bytes_status(&out);
    if (!status)
        status = dml_append(board->fd, board->path, &board->size, out.data, out.size);
    dml_bytes_free(&out);
    return status;
}

static void begin_event(struct board *board) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    board->event.size = 0;
    dml_pb_double(&board->event, EVENT_TIME, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
}

/* An event with all values that were added to the summary since the last one. */
static enum dml_status add_summary(struct board *board, uint64_t step) {
    begin_event(board);
    dml_pb_integer(&board->event, EVENT_STEP, step);
    dml_pb_message(&board->event, EVENT_SUMMARY, &board->summary);
    return add_event(board);
}

static void scalar(struct board *board, const char *tag, double value) {
    dml_pb_string(&board->value, VALUE_TAG, tag);
    dml_pb_float(&board->value, VALUE_SIMPLE, (float)value);
    dml_pb_message(&board->summary, 1, &board->value);
}

/* The components of a vector as counts of bins 0..1, 1..2, ... */
static enum dml_status histogram(struct board *board, const char *tag,
                                 const struct dml_metric_value *value) {
    size_t n = value->vector_count;
    double *limits = dml_alloc(2 * n, sizeof *limits), *counts = limits + n;
    double num = 0, sum = 0, squares = 0;
    if (!limits)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < n; i++) {
        double middle = (double)i + 0.5;
        limits[i] = (double)i + 1;
        counts[i] = (double)value->vector[i];
        num += counts[i];
        sum += counts[i] * middle;
        squares += counts[i] * middle * middle;
    }
    dml_pb_double(&board->inner, 1, 0);
    dml_pb_double(&board->inner, 2, (double)n);
    dml_pb_double(&board->inner, 3, num);
    dml_pb_double(&board->inner, 4, sum);
    dml_pb_double(&board->inner, 5, squares);
    dml_pb_doubles(&board->inner, 6, limits, n);
    dml_pb_doubles(&board->inner, 7, counts, n);
    free(limits);
    dml_pb_string(&board->value, VALUE_TAG, tag);
    dml_pb_message(&board->value, VALUE_HISTOGRAM, &board->inner);
    dml_pb_message(&board->summary, 1, &board->value);
    return DML_OK;
}

/* A PNG file as it is; its width and height are in its first chunk. */
static enum dml_status image(struct board *board, const char *tag, const char *path) {
    struct dml_mapping file;
    enum dml_status status = dml_map_file(path, &file);
    if (status)
        return status;
    if (file.size < 24 || memcmp(file.data + 1, "PNG", 3) != 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: is not a PNG file", path);
    for (int i = 0; i < 2 && !status; i++) {
        const unsigned char *at = file.data + 16 + 4 * i;
        uint64_t size =
            (uint64_t)at[0] << 24 | (uint64_t)at[1] << 16 | (uint64_t)at[2] << 8 | at[3];
        dml_pb_integer(&board->inner, i == 0 ? 2 : 1, size); /* width first, but field 2 */
    }
    if (!status) {
        dml_pb_integer(&board->inner, 3, 3); /* RGB */
        dml_pb_bytes(&board->inner, 4, file.data, file.size);
        dml_pb_string(&board->value, VALUE_TAG, tag);
        dml_pb_message(&board->value, VALUE_IMAGE, &board->inner);
        dml_pb_message(&board->summary, 1, &board->value);
    }
    dml_unmap_file(&file);
    return status;
}

static void destroy(struct board *board) {
    if (board->fd >= 0)
        close(board->fd);
    dml_bytes_free(&board->inner);
    dml_bytes_free(&board->value);
    dml_bytes_free(&board->summary);
    dml_bytes_free(&board->event);
    free(board->path);
    free(board);
}

static const char event_files[] = "events.out.tfevents.";

static bool is_event_file(const char *name) {
    return strncmp(name, event_files, strlen(event_files)) == 0 && !strchr(name, '/');
}

/* Removes event files that the run's state does not know: a part of the run that was killed before
 * its first state made them. */
static void remove_others(const char *folder, const char *own) {
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));)
        if (is_event_file(entry->d_name) && (!own || strcmp(entry->d_name, own) != 0))
            unlinkat(dirfd(entries), entry->d_name, 0);
    if (entries)
        closedir(entries);
}

/* The file of an earlier part of the run, cut to where it was at the state. *found is false where
 * there is none. */
static enum dml_status take_up(struct board *board, const struct dml_run *run, bool *found) {
    const cJSON *note = dml_run_note(run, tracker_name);
    const cJSON *file = cJSON_GetObjectItemCaseSensitive(note, "file");
    uint64_t bytes = dml_note_count(note, "bytes");
    const char *name = cJSON_IsString(file) && is_event_file(file->valuestring) && bytes > 0
                           ? file->valuestring
                           : NULL;
    struct stat info;
    *found = false;
    remove_others(run->folder, name);
    if (!name)
        return DML_OK;
    board->path = dml_path_join(run->folder, name);
    if (!board->path)
        return DML_ERROR_MEMORY;
    board->fd = open(board->path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    *found = board->fd >= 0 && fstat(board->fd, &info) == 0 && info.st_size >= (off_t)bytes;
    board->size = (off_t)bytes;
    if (*found && ftruncate(board->fd, board->size) != 0)
        return dml_fail(DML_ERROR_IO, "%s: cannot be shortened: %s", board->path, strerror(errno));
    if (*found)
        return DML_OK;
    dml_warn("%s: is not as the run left it; the log continues in a new file", board->path);
    if (board->fd >= 0)
        close(board->fd);
    free(board->path);
    board->fd = -1;
    board->path = NULL;
    return DML_OK;
}

static enum dml_status begin(struct board *board, const struct dml_run *run) {
    char host[DML_HOST_SIZE];
    board->size = 0;
    board->path = dml_format("%s/%s%lld.%s.%ld.0", run->folder, event_files, (long long)time(NULL),
                             dml_host(host), (long)getpid());
    if (!board->path)
        return DML_ERROR_MEMORY;
    board->fd =
        open(board->path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (board->fd < 0)
        return dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", board->path, strerror(errno));
    begin_event(board);
    dml_pb_string(&board->event, EVENT_VERSION, "brain.Event:2");
    return add_event(board);
}

static enum dml_status board_open(const struct dml_run *run, void **state) {
    struct board *board = dml_alloc(1, sizeof *board);
    bool found = false;
    *state = NULL;
    if (!board)
        return DML_ERROR_MEMORY;
    board->fd = -1;
    enum dml_status status = run->resumed ? take_up(board, run, &found) : DML_OK;
    if (!status && !found)
        status = begin(board, run);
    if (status)
        destroy(board);
    else
        *state = board;
    return status;
}

static enum dml_status board_sync(void *state, cJSON *note) {
    struct board *board = state;
    if (fdatasync(board->fd) != 0 && errno != EINVAL) /* a device has no disk */
        return dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", board->path, strerror(errno));
    return dml_note_status(cJSON_AddStringToObject(note, "file", strrchr(board->path, '/') + 1) &&
                           dml_note_number(note, "bytes", (double)board->size));
}

static enum dml_status board_step(void *state, const struct dml_step_record *record) {
    struct board *board = state;
    scalar(board, "Train/step_loss", record->loss);
    for (size_t i = 0; i < record->value_count; i++) {
        const struct dml_named_value *value = &record->values[i];
        char tag[DML_NAME_SIZE];
        const struct dml_studys_name *studys = dml_studys_name_of(value->name);
        if (studys)
            snprintf(tag, sizeof tag, "%s/%s", studys->part, studys->group);
        else
            snprintf(tag, sizeof tag, "Train/step_%s", value->name);
        scalar(board, tag, value->value);
    }
    return add_summary(board, record->step);
}

static enum dml_status add_part(struct board *board, const struct dml_part_record *part) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < part->count && !status; i++) {
        char tag[DML_NAME_SIZE];
        snprintf(tag, sizeof tag, "%s/%s", part->part, part->metrics[i].name);
        if (dml_metric_is_vector(&part->metrics[i]))
            status = histogram(board, tag, &part->metrics[i]);
        else
            scalar(board, tag, part->metrics[i].value);
    }
    return status;
}

static enum dml_status board_epoch(void *state, const struct dml_epoch_record *record) {
    struct board *board = state;
    enum dml_status status = DML_OK;
    scalar(board, "Train/loss", record->loss);
    scalar(board, "Train/time", record->train_seconds);
    scalar(board, "Train/lr", record->lr);
    for (size_t i = 0; i < record->value_count; i++) {
        char tag[DML_NAME_SIZE];
        snprintf(tag, sizeof tag, "Train/%s", record->values[i].name);
        scalar(board, tag, record->values[i].value);
    }
    for (size_t p = 0; p < record->part_count && !status; p++)
        status = add_part(board, &record->parts[p]);
    if (!status && record->contact_sheet)
        status = image(board, "sample_recoveries", record->contact_sheet);
    return status ? status : add_summary(board, record->epoch);
}

static enum dml_status board_close(void *state, enum dml_run_end end, const char *error) {
    (void)end, (void)error;
    destroy(state);
    return DML_OK;
}

const struct dml_tracker dml_tracker_tensorboard = {.name = tracker_name,
                                                    .open = board_open,
                                                    .step = board_step,
                                                    .epoch = board_epoch,
                                                    .sync = board_sync,
                                                    .close = board_close};
