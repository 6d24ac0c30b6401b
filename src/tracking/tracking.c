#include "tracking/tracking.h"

#include "base/memory.h"
#include "base/messages.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(member) offsetof(struct dml_tracking_options, member)
static const struct dml_param parameters[] = {
    {.name = "log_online",
     .type = DML_PARAM_FLAG,
     .offset = FIELD(log_online),
     .help = "Also write a W&B offline run and sync it at the end; the key comes from "
             "--wandb_key KEY or $WANDB_API_KEY and is stored nowhere.",
     .facts = DML_PARAM_SAME_RUN},
    {.name = "project",
     .type = DML_PARAM_STRING,
     .offset = FIELD(project),
     .fallback = "Sample_Project",
     .help = "Project of the run, in W&B and in reports."},
    {.name = "group",
     .type = DML_PARAM_STRING,
     .offset = FIELD(group),
     .fallback = "Sample_Group",
     .help = "Group of the run: runs of one setup with different seeds share it."},
    {.name = "tensorboard",
     .type = DML_PARAM_FLAG,
     .offset = FIELD(tensorboard),
     .help = "Also write TensorBoard event files into the run's folder.",
     .facts = DML_PARAM_SAME_RUN},
    {.name = "no_plots",
     .type = DML_PARAM_FLAG,
     .offset = FIELD(no_plots),
     .help = "Do not draw Progression_Plots.",
     .facts = DML_PARAM_SAME_RUN},
};

const struct dml_param_table dml_tracking_params =
    DML_PARAM_TABLE_OF("Tracking", struct dml_tracking_options, parameters, DML_PARAM_MAY_CHANGE);

/* Each tracker has its file, which defines dml_tracker_NAME. */
extern const struct dml_tracker dml_tracker_console, dml_tracker_csv, dml_tracker_summary,
    dml_tracker_sqlite, dml_tracker_plots, dml_tracker_wandb, dml_tracker_tensorboard;

struct slot {
    const struct dml_tracker *tracker;
    void *state;
    bool needed; /* its failure is the run's */
    bool off;    /* it failed and said so */
};

enum { SLOTS = 8 };

struct dml_tracking {
    const struct dml_run *run;
    struct slot slots[SLOTS];
    size_t count;
    char lost[96]; /* names of those that could not write what they were told */
};

double dml_named_value(const struct dml_named_value *values, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(values[i].name, name) == 0)
            return values[i].value;
    return 0;
}

const cJSON *dml_run_note(const struct dml_run *run, const char *name) {
    return cJSON_GetObjectItemCaseSensitive(run->notes, name);
}

/* What a tracker's failure means for the run: a line now and, if something was lost, one at the
 * end, unless the run cannot do without it. A missing program or somebody else's file loses nothing
 * that was there. */
static enum dml_status judge(struct dml_tracking *tracking, struct slot *slot,
                             enum dml_status status) {
    if (!status || slot->needed)
        return status;
    if (slot->off)
        return DML_OK;
    dml_warn("%s; the run continues without %s", dml_error(), slot->tracker->name);
    slot->off = true;
    size_t length = strlen(tracking->lost);
    if (status == DML_ERROR_IO || status == DML_ERROR_MEMORY)
        snprintf(tracking->lost + length, sizeof tracking->lost - length, "%s%s",
                 length ? ", " : "", slot->tracker->name);
    return DML_OK;
}

static enum dml_status add(struct dml_tracking *tracking, const struct dml_run *run,
                           const struct dml_tracker *tracker, bool needed) {
    struct slot *slot = &tracking->slots[tracking->count];
    *slot = (struct slot){.tracker = tracker, .needed = needed};
    enum dml_status status = judge(tracking, slot, tracker->open(run, &slot->state));
    if (!status && !slot->off)
        tracking->count++;
    return status;
}

enum dml_status dml_tracking_open(const struct dml_run *run,
                                  const struct dml_tracking_options *options,
                                  struct dml_tracking **out) {
    struct dml_tracking *tracking = dml_alloc(1, sizeof *tracking);
    *out = NULL;
    if (!tracking)
        return DML_ERROR_MEMORY;
    tracking->run = run;
    const struct {
        const struct dml_tracker *tracker;
        bool wanted, needed;
    } all[] = {
        {&dml_tracker_csv, true, true},
        {&dml_tracker_summary, true, false},
        {&dml_tracker_console, true, false},
        {&dml_tracker_sqlite, true, false},
        {&dml_tracker_plots, !options->no_plots, false}, /* after csv, whose files it draws */
        {&dml_tracker_wandb, options->log_online, false},
        {&dml_tracker_tensorboard, options->tensorboard, false},
    };
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < sizeof all / sizeof all[0] && !status; i++)
        if (all[i].wanted)
            status = add(tracking, run, all[i].tracker, all[i].needed);
    if (status)
        dml_tracking_close(tracking, DML_RUN_FAILED, dml_error());
    else
        *out = tracking;
    return status;
}

enum dml_status dml_tracking_step(struct dml_tracking *tracking,
                                  const struct dml_step_record *record) {
    for (size_t i = 0; i < tracking->count; i++) {
        struct slot *slot = &tracking->slots[i];
        enum dml_status status = DML_OK;
        if (!slot->off && slot->tracker->step)
            status = judge(tracking, slot, slot->tracker->step(slot->state, record));
        if (status)
            return status;
    }
    return DML_OK;
}

enum dml_status dml_tracking_epoch(struct dml_tracking *tracking,
                                   const struct dml_epoch_record *record) {
    for (size_t i = 0; i < tracking->count; i++) {
        struct slot *slot = &tracking->slots[i];
        enum dml_status status = DML_OK;
        if (!slot->off && slot->tracker->epoch)
            status = judge(tracking, slot, slot->tracker->epoch(slot->state, record));
        if (status)
            return status;
    }
    return DML_OK;
}

/* Adds what a tracker notes, in place of what it noted before. */
static enum dml_status add_note(struct dml_tracking *tracking, struct slot *slot, cJSON *notes) {
    cJSON *note = cJSON_CreateObject();
    enum dml_status status = note ? slot->tracker->sync(slot->state, note)
                                  : dml_fail(DML_ERROR_MEMORY, "out of memory: a state's notes");
    if (status || slot->off) {
        cJSON_Delete(note);
        return judge(tracking, slot, status);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(notes, slot->tracker->name);
    if (cJSON_AddItemToObject(notes, slot->tracker->name, note))
        return DML_OK;
    cJSON_Delete(note);
    return dml_fail(DML_ERROR_MEMORY, "out of memory: a state's notes");
}

enum dml_status dml_tracking_sync(struct dml_tracking *tracking, char **out) {
    /* The note of a tracker that is not wanted this time is kept for the next. */
    cJSON *notes =
        tracking->run->notes ? cJSON_Duplicate(tracking->run->notes, true) : cJSON_CreateObject();
    enum dml_status status = DML_OK;
    for (size_t i = 0; notes && i < tracking->count && !status; i++)
        if (!tracking->slots[i].off && tracking->slots[i].tracker->sync)
            status = add_note(tracking, &tracking->slots[i], notes);
    *out = !status && notes ? cJSON_PrintUnformatted(notes) : NULL;
    cJSON_Delete(notes);
    if (!status && !*out)
        status = dml_fail(DML_ERROR_MEMORY, "out of memory: a state's notes");
    return status;
}

enum dml_status dml_tracking_close(struct dml_tracking *tracking, enum dml_run_end end,
                                   const char *error) {
    enum dml_status first = DML_OK;
    char *reason = error ? dml_strdup(error) : NULL; /* `error` may be dml_error() itself */
    char *message = NULL;
    for (size_t i = 0; tracking && i < tracking->count; i++) {
        struct slot *slot = &tracking->slots[i];
        enum dml_status status =
            judge(tracking, slot, slot->tracker->close(slot->state, end, reason));
        if (status && !first) {
            first = status;
            message = dml_strdup(dml_error());
        }
    }
    if (first && message)
        dml_fail(first, "%s", message);
    else if (reason && end == DML_RUN_FAILED)
        dml_fail(DML_ERROR_IO, "%s", reason); /* the run's own failure stays the last message */
    else if (!first && tracking && *tracking->lost)
        first = dml_fail(
            DML_ERROR_IO,
            "the run %s, but not everything that it leaves could be written: %s %s incomplete",
            end == DML_RUN_FINISHED ? "finished" : "was interrupted", tracking->lost,
            strchr(tracking->lost, ',') ? "are" : "is");
    free(message);
    free(reason);
    free(tracking);
    return first;
}
