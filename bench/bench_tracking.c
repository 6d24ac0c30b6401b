#include "bench.h"

#include "base/files.h"
#include "base/progress.h"
#include "metrics/defaults.h"
#include "tracking/tracking.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What logging costs: a step through all trackers, and an epoch with the study's metrics for both
 * sets. The bound is one percent of a step that takes a tenth of a second, a third of what the
 * smallest network (ResNet-18 at 32 px, batch 32) takes on two cores. */

enum { STEPS = 200, EPOCHS = 20, METRICS = DML_DEFAULT_METRIC_COUNT, SPECTRUM = 127 };
static const double short_step = 0.1; /* seconds */

static void fill(struct dml_metric_value *metrics, float *spectrum, int epoch) {
    for (int i = 0; i < METRICS; i++) {
        metrics[i] = (struct dml_metric_value){.value = 0.3 + 0.001 * epoch + 0.01 * i};
        snprintf(metrics[i].name, sizeof metrics[i].name, "%s", dml_default_metrics[i]);
        if (strcmp(metrics[i].name, "rho_spectrum@0") == 0) {
            metrics[i].vector = spectrum;
            metrics[i].vector_count = SPECTRUM;
        }
    }
}

int main(void) {
    char save_path[] = "/tmp/dml-bench-tracking-XXXXXX", folder[128], command[160];
    float spectrum[SPECTRUM];
    struct dml_metric_value metrics[METRICS];
    struct dml_tracking *tracking;
    double in_steps = 0, in_epochs = 0, in_close;
    if (!mkdtemp(save_path))
        return 1;
    snprintf(folder, sizeof folder, "%s/data/run", save_path);
    struct dml_run run = {.folder = folder,
                          .save_path = save_path,
                          .dataset = "data",
                          .savename = "run",
                          .project = "bench",
                          .group = "bench",
                          .command = "",
                          .version = "",
                          .processor = "",
                          .steps_per_epoch = STEPS,
                          .epochs = EPOCHS};
    struct dml_tracking_options options = {
        .log_online = true, .tensorboard = true, .no_plots = false};
    for (int i = 0; i < SPECTRUM; i++)
        spectrum[i] = 1.0f / (float)(i + 1);
    setenv("PATH", "/usr/bin:/bin", 1);
    if (dml_make_folders(folder) != DML_OK ||
        dml_tracking_open(&run, &options, &tracking) != DML_OK)
        return 1;
    for (int e = 0; e < EPOCHS; e++) {
        double start = dml_now();
        for (int s = 0; s < STEPS; s++) {
            const struct dml_named_value values[] = {{"gradient", "grad_rms", 1e-3 * s},
                                                     {"gradient", "grad_max", 0.1 * s},
                                                     {"steps", "tuples", 112},
                                                     {"steps", "active", 60},
                                                     {"steps", "swapped", 0},
                                                     {"steps_learning", "lr", 1e-5},
                                                     {"steps_learning", "clipped", 0}};
            struct dml_step_record step = {.step = (uint64_t)(e * STEPS + s),
                                           .epoch = (uint64_t)e,
                                           .loss = 0.1 + 1e-5 * s,
                                           .seconds = 0.5,
                                           .values = values,
                                           .value_count = sizeof values / sizeof values[0]};
            if (dml_tracking_step(tracking, &step) != DML_OK)
                return 1;
        }
        in_steps += dml_now() - start;
        fill(metrics, spectrum, e);
        struct dml_epoch_record epoch = {
            .epoch = (uint64_t)e,
            .loss = 0.1,
            .train_seconds = 100,
            .eval_seconds = 10,
            .train_images = 22400,
            .eval_images = 11000,
            .lr = 1e-5,
            .parts = {{"Test", metrics, METRICS}, {"Train", metrics, METRICS}},
            .part_count = 2};
        start = dml_now();
        if (dml_tracking_epoch(tracking, &epoch) != DML_OK)
            return 1;
        in_epochs += dml_now() - start;
    }
    double start = dml_now();
    if (dml_tracking_close(tracking, DML_RUN_FINISHED, NULL) != DML_OK)
        return 1;
    in_close = dml_now() - start;
    double step = in_steps / (STEPS * EPOCHS), epoch = in_epochs / EPOCHS;
    bench_report("tracking", "step", step * 1e6, "us", short_step * 0.01 * 1e6);
    bench_report("tracking", "epoch", epoch * 1e3, "ms", 0);
    bench_report("tracking", "step with its share of an epoch", (step + epoch / STEPS) * 1e6, "us",
                 short_step * 0.01 * 1e6);
    bench_report("tracking", "close, plots drawn", in_close, "s", 0);
    snprintf(command, sizeof command, "rm -rf '%s'", save_path);
    return system(command);
}
