#include "base/files.h"
#include "dml/error.h"
#include "dml/metrics.h"
#include "tracking/process.h"
#include "tracking/tracking.h"

#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a run goes on with: the notes of its state (JSON up to a 0), and logs with whatever is in
 * them, here the same bytes in each. A run must go on, or say why not, and what it notes then must
 * be where it goes on again. */

extern const struct dml_tracker dml_tracker_csv, dml_tracker_summary, dml_tracker_tensorboard,
    dml_tracker_wandb;

static char folder[64];
static const struct dml_tracker *const trackers[] = {&dml_tracker_csv, &dml_tracker_summary,
                                                     &dml_tracker_tensorboard, &dml_tracker_wandb};
enum { TRACKERS = sizeof trackers / sizeof *trackers, LOGS = 3 };
/* W&B's name comes from the run's identity */
static const char *const logs[LOGS] = {"CSV_Logs/Data_Train_loss.csv",
                                       "events.out.tfevents.1.h.1.0",
                                       "wandb/offline-run-1-be4ddpsv/run-be4ddpsv.wandb"};

/* In place of the library's, which needs what all metrics need, and which starts programs. */
enum dml_metric_order dml_metric_order_of(const char *name) {
    return strncmp(name, "dists", 5) == 0 ? DML_METRIC_SMALLER : DML_METRIC_LARGER;
}

bool dml_metric_better(enum dml_metric_order order, double value, double best) {
    return order == DML_METRIC_SMALLER ? value < best : value > best;
}

enum dml_status dml_process_start(const char *const *command, const char *where, const char *log,
                                  pid_t *child) {
    (void)command, (void)where, (void)log, (void)child;
    return DML_ERROR_IO;
}

const cJSON *dml_run_note(const struct dml_run *run, const char *name) {
    return cJSON_GetObjectItemCaseSensitive(run->notes, name);
}

double dml_named_value(const struct dml_named_value *values, size_t count, const char *name) {
    (void)values, (void)count, (void)name;
    return 0;
}

static void clean(void) {
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command))
        abort();
}

static void begin(void) {
    snprintf(folder, sizeof folder, "/dev/shm/dml-fuzz-XXXXXX");
    if (!mkdtemp(folder))
        abort();
    atexit(clean);
}

static void write_logs(const uint8_t *data, size_t size) {
    for (int i = 0; i < LOGS; i++) {
        char path[200], *slash;
        snprintf(path, sizeof path, "%s/%s", folder, logs[i]);
        slash = strrchr(path, '/');
        *slash = 0;
        if (dml_make_folders(path))
            abort();
        *slash = '/';
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(data, 1, size, file) != size || fclose(file))
            abort();
    }
}

static const struct dml_epoch_record *an_epoch(void) {
    static float spectrum[] = {0.5f, 0.25f};
    static struct dml_metric_value metrics[] = {
        {.name = "e_recall@1", .value = 0.5},
        {.name = "rho_spectrum@0", .vector = spectrum, .vector_count = 2}};
    static const struct dml_named_value values[] = {{"learning", "lr/all", 0.001}};
    static const struct dml_epoch_record record = {.epoch = 1,
                                                   .loss = 1,
                                                   .train_seconds = 1,
                                                   .parts = {{"Test", metrics, 2}},
                                                   .part_count = 1,
                                                   .values = values,
                                                   .value_count = 1};
    return &record;
}

/* Goes on with `notes`, writes on, and gives new notes. */
static cJSON *go_on(const cJSON *notes) {
    const struct dml_run run = {.folder = folder,
                                .save_path = folder,
                                .dataset = "d",
                                .savename = "s",
                                .project = "p",
                                .group = "g",
                                .identity = "0123456789abcdef",
                                .command = "c",
                                .version = "1",
                                .processor = "cpu",
                                .epochs = 2,
                                .resumed = true,
                                .first_step = 1,
                                .first_epoch = 1,
                                .notes = notes};
    const struct dml_step_record step = {.step = 1, .epoch = 1, .loss = 1, .seconds = 1};
    cJSON *again = cJSON_CreateObject();
    for (int i = 0; i < TRACKERS; i++) {
        void *state;
        if (trackers[i]->open(&run, &state) != DML_OK) {
            if (!*dml_error())
                abort(); /* without a word */
            continue;
        }
        enum dml_status status = trackers[i]->step ? trackers[i]->step(state, &step) : DML_OK;
        if (!status)
            status = trackers[i]->epoch(state, an_epoch());
        cJSON *note = cJSON_AddObjectToObject(again, trackers[i]->name);
        if (!status)
            status = trackers[i]->sync(state, note);
        if (status && trackers[i] != &dml_tracker_csv)
            abort(); /* CSV files of other columns are refused */
        trackers[i]->close(state, DML_RUN_INTERRUPTED, NULL);
    }
    /* as in a state, where it is text */
    char *text = cJSON_PrintUnformatted(again);
    cJSON_Delete(again);
    again = text ? cJSON_Parse(text) : NULL;
    free(text);
    if (!again)
        abort();
    return again;
}

/* What was noted is found again, and grows. */
static void check_same(const cJSON *first, const cJSON *second, const char *tracker,
                       const char *name) {
    const cJSON *before = cJSON_GetObjectItem(first, tracker),
                *after = cJSON_GetObjectItem(second, tracker);
    const char *place = cJSON_GetStringValue(cJSON_GetObjectItem(before, name)),
               *found = cJSON_GetStringValue(cJSON_GetObjectItem(after, name));
    double size = cJSON_GetNumberValue(cJSON_GetObjectItem(before, "bytes")),
           grown = cJSON_GetNumberValue(cJSON_GetObjectItem(after, "bytes"));
    if (!place || !found || strcmp(place, found) != 0 || !(grown > size))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!*folder)
        begin();
    const uint8_t *end = memchr(data, 0, size);
    size_t text = end ? (size_t)(end - data) : size;
    cJSON *notes = cJSON_ParseWithLength((const char *)data, text);
    write_logs(end ? end + 1 : data, end ? size - text - 1 : 0);
    cJSON *again = go_on(notes);
    cJSON *once_more = go_on(again);
    check_same(again, once_more, "TensorBoard", "file");
    check_same(again, once_more, "W&B", "folder");
    cJSON_Delete(once_more);
    cJSON_Delete(again);
    cJSON_Delete(notes);
    return 0;
}
