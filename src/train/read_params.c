#include "train/read_params.h"

#include "base/files.h"
#include "base/memory.h"
#include "dml/params_json.h"
#include "train/checkpoint.h"
#include "train/options.h"
#include "train/ranks.h"

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

enum dml_status dml_train_read_params(struct dml_params *params, struct dml_comm *comm) {
    enum dml_status status = DML_OK;
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    /* A resumed run's file says what it continued from, which does not concern this run. */
    if (!status && *setup->params && !dml_params_given(params, "resume"))
        status = dml_params_clear(params, "resume");
    if (!status && *setup->params) {
        char *json, *path = dml_strdup(setup->params);
        status = path ? dml_read_text(path, "is not a text file", &json) : DML_ERROR_MEMORY;
        if (!status) {
            status = dml_params_from_json(params, json, false);
            if (status)
                dml_fail_within(status, "%s", path);
            free(json);
        }
        free(path);
    }
    if (!status)
        status = dml_ranks_agree(comm, params);
    if (!status && *setup->resume && comm->rank == 0)
        status = name_state(params, setup->resume);
    if (!status && *setup->resume && comm->rank == 0)
        status = dml_state_params(setup->resume, params);
    if (!status)
        status = dml_ranks_adopt(comm, params);
    /* Code is loaded only where the command line says so, never because a file does. */
    if (setup->plugin.count && !dml_params_given(params, "plugin"))
        status = dml_fail(DML_ERROR_USAGE, "that run had --plugin %s: give it here too",
                          setup->plugin.items[0]);
    return status;
}
