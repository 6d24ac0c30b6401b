#include "train/run_folder.h"

#include "base/files.h"
#include "base/memory.h"
#include "data/dataset.h"
#include "tracking/tracking.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static void to_upper(char *text) {
    for (; *text; text++)
        *text = (char)toupper((unsigned char)*text);
}

/* "CUB200_RESNET50_FROZEN_NORMALIZE_2026-11-23-16-5-0", as the study names runs. */
static char *name_by_time(const char *dataset, const char *arch) {
    char *name = dml_format("%s_%s", dataset, arch);
    if (!name)
        return NULL;
    to_upper(name);
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    char *full = dml_format("%s_%d-%d-%d-%d-%d-%d", name, local.tm_year + 1900, local.tm_mon + 1,
                            local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec);
    free(name);
    return full;
}

static char *wanted_name(const struct dml_params *params, const char *dataset) {
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    const struct dml_tracking_options *logging = dml_params_options(params, &dml_tracking_params);
    const struct dml_training_options *training = dml_params_options(params, &dml_training_params);
    const struct dml_network_flags *network = dml_params_options(params, &dml_network_params);
    bool by_group = strcmp(setup->savename, "group_plus_seed") == 0;
    if (!by_group && *setup->savename)
        return dml_strdup(setup->savename);
    if (by_group && (logging->log_online || dml_params_given(params, "group")))
        return dml_format("%s_s%lld", logging->group, (long long)training->seed);
    return name_by_time(dataset, network->arch);
}

enum dml_status dml_run_folder_make(const struct dml_params *params, char **folder, char **name) {
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    const struct dml_dataset_options *data = dml_params_options(params, &dml_dataset_params);
    enum dml_status status = DML_ERROR_MEMORY;
    *folder = *name = NULL;
    char *parent = dml_path_join(setup->save_path, data->dataset);
    char *wanted = wanted_name(params, data->dataset);
    if (!parent || !wanted || (status = dml_make_folders(parent)))
        goto out;
    for (int suffix = 0;; suffix++) { /* mkdir is what decides between two runs at once */
        free(*name);
        free(*folder);
        *folder = NULL;
        *name = suffix ? dml_format("%s_%d", wanted, suffix) : dml_strdup(wanted);
        *folder = *name ? dml_path_join(parent, *name) : NULL;
        if (!*folder)
            status = DML_ERROR_MEMORY;
        else if (mkdir(*folder, 0777) == 0)
            status = DML_OK;
        else if (errno == EEXIST)
            continue;
        else
            status = dml_fail(DML_ERROR_IO, "%s: cannot be made: %s", *folder, strerror(errno));
        break;
    }
out:
    if (status) {
        free(*folder);
        free(*name);
        *folder = *name = NULL;
    }
    free(parent);
    free(wanted);
    return status;
}

enum dml_status dml_run_folder_resume(const struct dml_params *params, const char *state,
                                      char **folder, char **name) {
    char *resolved = realpath(state, NULL);
    char *slash = resolved ? strrchr(resolved, '/') : NULL;
    enum dml_status status = DML_OK;
    *folder = *name = NULL;
    bool in_place = false;
    if (slash && slash != resolved && !dml_params_given(params, "savename")) {
        *slash = 0;
        char *file = dml_path_join(resolved, "parameters.json");
        in_place = file && dml_path_exists(file);
        free(file);
    }
    if (in_place) {
        *folder = dml_strdup(resolved);
        *name = dml_strdup(strrchr(resolved, '/') + 1);
        status = *folder && *name ? DML_OK : DML_ERROR_MEMORY;
    } else {
        status = dml_run_folder_make(params, folder, name);
    }
    free(resolved);
    return status;
}
