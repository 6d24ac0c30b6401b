#include "cli/cli.h"

#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/interrupt.h"
#include "dml/params_json.h"
#include "tracking/tracking.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

/* --resume FOLDER is the state in a run's folder, where there is one. */
static enum dml_status name_state(struct dml_params *params, const char *resume) {
    char *flag = dml_format("--resume=%s/state.safetensors", resume);
    enum dml_status status = flag ? DML_OK : DML_ERROR_MEMORY;
    if (!status && dml_is_folder(resume) && dml_path_exists(strchr(flag, '=') + 1))
        status = dml_params_parse(params, 1, &flag);
    free(flag);
    return status;
}

/* Flags first, then what --params and the state of --resume say where no flag was given. */
static enum dml_status read_params(struct dml_params *params, int argc, char **argv) {
    enum dml_status status = dml_params_parse(params, argc - 1, argv + 1);
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    /* That of a resumed run holds what it went on from, which is not this run's affair. */
    if (!status && *setup->params && !dml_params_given(params, "resume"))
        status = dml_params_parse_text(params, "--resume=");
    if (!status && *setup->params) {
        char *json, *path = dml_strdup(setup->params);
        status = path ? dml_read_file(path, &json, NULL) : DML_ERROR_MEMORY;
        if (!status) {
            status = dml_params_from_json(params, json, false);
            if (status)
                dml_fail_within(status, "%s", path);
            free(json);
        }
        free(path);
    }
    if (!status && *setup->resume)
        status = name_state(params, setup->resume);
    if (!status && *setup->resume)
        status = dml_state_params(setup->resume, params);
    /* Code is loaded where the command line says so, never because a file does. */
    if (setup->plugin.count && !dml_params_given(params, "plugin"))
        status = dml_fail(DML_ERROR_USAGE, "that run had --plugin %s: give it here, too",
                          setup->plugin.items[0]);
    return status;
}

static void print_help(const struct dml_params *params) {
    puts("usage: dml train [FLAGS]\n\n"
         "Trains a network with a deep metric learning criterion and evaluates it after each\n"
         "epoch. Flags are those of the study's PyTorch repository, lists take several values,\n"
         "and unambiguous beginnings of flags work.");
    dml_params_help(params, stdout);
}

int dml_train_main(int argc, char **argv) {
    struct dml_params *params = NULL;
    enum dml_status status = dml_tracking_take_key(&argc, argv);
    /* as a shell would read it back */
    char *words = dml_text_shell(argv, argc), *command = words ? dml_format("dml %s", words) : NULL;
    free(words);
    if (!status && !command)
        status = DML_ERROR_MEMORY;
    if (!status)
        status = dml_cli_load_plugins(argc, argv);
    if (!status)
        status = dml_train_params(&params);
    if (!status && dml_cli_wants_help(argc, argv)) {
        print_help(params);
    } else {
        const volatile sig_atomic_t *stop =
            dml_cli_catch_interrupts("\nstopping after this step; once more to stop at once\n");
        if (!status)
            status = read_params(params, argc, argv);
        if (!status)
            status = dml_train(params, command, stop);
    }
    dml_params_free(params);
    free(command);
    return dml_cli_finish("train", status);
}
