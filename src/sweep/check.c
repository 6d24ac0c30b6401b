#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "dml/dml.h"
#include "sweep/identity.h"
#include "sweep/sweep.h"
#include "tracking/tracking.h"
#include "train/experiment.h"

#include <stdlib.h>
#include <string.h>

static enum dml_status keep_save_path(struct dml_sweep *sweep, const char *save_path) {
    if (!sweep->save_path) {
        sweep->save_path = dml_strdup(save_path);
        return sweep->save_path ? DML_OK : DML_ERROR_MEMORY;
    }
    if (strcmp(sweep->save_path, save_path) == 0)
        return DML_OK;
    return dml_fail(DML_ERROR_USAGE,
                    "--save_path %s: earlier runs are saved to %s, and a "
                    "sweep has only one place",
                    save_path, sweep->save_path);
}

static enum dml_status check_run(struct dml_sweep *sweep, const struct dml_identity *identity,
                                 struct dml_sweep_run *run) {
    struct dml_params *params = NULL;
    /* The plugins that it names, so that their methods are known here too. */
    enum dml_status status = dml_plugin_load_flags(run->argc, run->argv);
    if (!status)
        status = dml_train_params(&params);
    if (!status)
        status = dml_params_parse(params, run->argc, run->argv);
    if (!status)
        status = dml_train_name_csv(params);
    const struct dml_setup_options *setup =
        status ? NULL : dml_params_options(params, &dml_setup_params);
    /* Whatever does not exist is found now rather than when its run begins; what a file says is not
     * known yet. */
    if (!status && !*setup->params && !*setup->resume)
        status = dml_train_check(params);
    if (!status)
        status = keep_save_path(sweep, setup->save_path);
    if (!status)
        status = dml_identity_of_params(identity, params, &run->identity);
    dml_params_free(params);
    return status;
}

/* Moves the W&B key from the lines to the environment, where the runs find it. */
static enum dml_status hide_key(struct dml_sweep_run *run) {
    char *arguments[1024];
    int argc = run->argc + 1;
    if (argc + 1 > (int)(sizeof arguments / sizeof arguments[0]))
        return dml_fail(DML_ERROR_INPUT, "more than 1022 words");
    arguments[0] = "dml";
    memcpy(arguments + 1, run->argv, (size_t)run->argc * sizeof *arguments);
    arguments[argc] = NULL;
    enum dml_status status = dml_tracking_take_key(&argc, arguments);
    if (status || argc == run->argc + 1)
        return status;
    /* What was taken out is freed, the rest moves up. */
    int kept = 0;
    for (int i = 0; i < run->argc; i++) {
        bool stays = kept + 1 < argc && run->argv[i] == arguments[kept + 1];
        if (stays)
            run->argv[kept++] = run->argv[i];
        else
            free(run->argv[i]);
    }
    run->argc = kept;
    run->argv[kept] = NULL;
    free(run->flags);
    free(run->label);
    run->flags = dml_text_shell(run->argv, run->argc);
    run->label = dml_text_shell(run->argv, run->argc);
    return run->flags && run->label ? DML_OK : DML_ERROR_MEMORY;
}

static void drop_doubles(struct dml_sweep *sweep) {
    size_t kept = 0;
    for (size_t i = 0; i < sweep->count; i++) {
        size_t j = 0;
        while (j < kept && strcmp(sweep->runs[j].identity, sweep->runs[i].identity) != 0)
            j++;
        if (j == kept) {
            sweep->runs[kept++] = sweep->runs[i];
            continue;
        }
        dml_warn("line %zu repeats the run of line %zu; it is left out", sweep->runs[i].line,
                 sweep->runs[j].line);
        dml_sweep_run_free(&sweep->runs[i]);
    }
    sweep->count = kept;
}

enum dml_status dml_sweep_check(const char *path, struct dml_sweep *sweep) {
    struct dml_identity identity = {0};
    enum dml_status status = dml_identity_open(&identity);
    for (size_t i = 0; i < sweep->count && !status; i++) {
        status = hide_key(&sweep->runs[i]);
        if (!status)
            status = check_run(sweep, &identity, &sweep->runs[i]);
        if (status)
            dml_fail_within(status, "%s:%zu", path, sweep->runs[i].line);
    }
    if (!status)
        drop_doubles(sweep);
    dml_identity_close(&identity);
    return status;
}
