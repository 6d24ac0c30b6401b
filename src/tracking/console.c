#include "base/memory.h"
#include "base/messages.h"
#include "base/stream.h"
#include "tracking/best.h"
#include "tracking/names.h"
#include "tracking/tracking.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The table after each epoch: a row per metric, a column per part, the best value so far marked.
 *
 *   Epoch 3 of 40: loss 0.3123, lr 0.001, 812 images/s, 12.3 s training, 4.2 s evaluation
 *     metric                Train                   Test
 *     e_recall@1           0.7123 *               0.5443  best 0.5512 at 2
 */

enum { VALUE_WIDTH = 9, CELL_WIDTH = 31 };

struct console {
    const struct dml_run *run;
    struct dml_bests bests;
    bool bold;
};

static enum dml_status console_open(const struct dml_run *run, void **state) {
    struct console *console = dml_alloc(1, sizeof *console);
    *state = console;
    if (!console)
        return DML_ERROR_MEMORY;
    console->run = run;
    console->bold = dml_messages_bold();
    enum dml_status status = dml_bests_restore(&console->bests, dml_run_note(run, "summary.json"));
    if (status) {
        dml_bests_free(&console->bests);
        free(console);
        *state = NULL;
    }
    return status;
}

static void heading(FILE *out, const struct console *console,
                    const struct dml_epoch_record *record) {
    if (console->run->epochs > 0)
        fprintf(out, "\nEpoch %llu of %zu: loss %.4f, lr %g", (unsigned long long)record->epoch + 1,
                console->run->epochs, record->loss, record->lr);
    else
        fprintf(out, "\nBefore training");
    if (record->train_seconds > 0)
        fprintf(out, ", %.0f images/s, %.1f s training",
                (double)record->train_images / record->train_seconds, record->train_seconds);
    if (record->eval_seconds > 0)
        fprintf(out, ", %.1f s evaluation", record->eval_seconds);
    static const struct {
        const char *name, *text;
        double scale;
        int digits;
    } told[] = {{"swapped_share", "% of tuples swapped", 100, 1},
                {"clipped_share", "% of steps clipped", 100, 1},
                {"replaced_images", "images replaced", 1, 0},
                {"corrupt_images", "images corrupt", 1, 0}};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        double value = dml_named_value(record->values, record->value_count, told[i].name);
        if (value > 0)
            fprintf(out, ", %.*f %s", told[i].digits, value * told[i].scale, told[i].text);
    }
    fputc('\n', out);
}

static void cell(FILE *out, const struct console *console, const struct dml_epoch_record *record,
                 size_t p, const struct dml_metric_value *value) {
    const char *part = record->parts[p].part;
    bool last = p + 1 == record->part_count; /* no blanks after it */
    const struct dml_best *best = dml_bests_find(&console->bests, part, value->name);
    char note[CELL_WIDTH] = "";
    bool now = best && isfinite(best->best) && best->epoch == record->epoch;
    if (now)
        snprintf(note, sizeof note, " *");
    else if (best && isfinite(best->best))
        snprintf(note, sizeof note, "  best %.4f at %llu", best->best,
                 (unsigned long long)best->epoch + 1);
    const char *bold = now && console->bold ? "\033[1m" : "";
    fprintf(out, "%s%*.4f%s%-*s", bold, VALUE_WIDTH, value->value, *bold ? "\033[0m" : "",
            last ? 0 : CELL_WIDTH - VALUE_WIDTH, note);
}

static const struct dml_metric_value *of_part(const struct dml_part_record *part,
                                              const char *name) {
    for (size_t i = 0; i < part->count; i++)
        if (strcmp(part->metrics[i].name, name) == 0)
            return dml_metric_is_vector(&part->metrics[i]) ? NULL : &part->metrics[i];
    return NULL;
}

/* The metrics of the first part that has any; the evaluator computes the same for all. */
static void table(FILE *out, const struct console *console, const struct dml_epoch_record *record) {
    const struct dml_part_record *rows = &record->parts[0];
    fprintf(out, "  %-24s", "metric");
    for (size_t p = 0; p < record->part_count; p++)
        fprintf(out, "%*s%*s", VALUE_WIDTH, record->parts[p].part,
                p + 1 < record->part_count ? CELL_WIDTH - VALUE_WIDTH : 0, "");
    fputc('\n', out);
    for (size_t i = 0; i < rows->count; i++) {
        if (dml_metric_is_vector(&rows->metrics[i]))
            continue;
        fprintf(out, "  %-24s", rows->metrics[i].name);
        for (size_t p = 0; p < record->part_count; p++) {
            const struct dml_metric_value *value =
                of_part(&record->parts[p], rows->metrics[i].name);
            if (value)
                cell(out, console, record, p, value);
            else
                fprintf(out, "%*s%*s", VALUE_WIDTH, "-", CELL_WIDTH - VALUE_WIDTH, "");
        }
        fputc('\n', out);
    }
}

static enum dml_status console_epoch(void *state, const struct dml_epoch_record *record) {
    struct console *console = state;
    enum dml_status status = dml_bests_update(&console->bests, record);
    if (status)
        return status;
    struct dml_stream stream;
    char *text = NULL;
    status = dml_stream_open(&stream);
    if (status)
        return status;
    heading(stream.file, console, record);
    if (record->part_count > 0)
        table(stream.file, console, record);
    status = dml_stream_close(&stream, &text);
    if (!status)
        dml_tell_lines(DML_MESSAGE_INFO, text);
    free(text);
    return status;
}

static enum dml_status console_close(void *state, enum dml_run_end end, const char *error) {
    (void)end, (void)error;
    struct console *console = state;
    dml_bests_free(&console->bests);
    free(console);
    return DML_OK;
}

const struct dml_tracker dml_tracker_console = {
    .name = "console", .open = console_open, .epoch = console_epoch, .close = console_close};
