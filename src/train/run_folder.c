#include "train/run_folder.h"

#include "base/files.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "data/dataset.h"
#include "dml/params_json.h"
#include "tracking/tracking.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char run_file[] = "run.json", params_file[] = "parameters.json";

enum { RUN_FORMAT = 1, NEW_SECONDS = 60 };

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

static enum dml_status make_identity(char identity[DML_IDENTITY_SIZE]) {
    unsigned char bytes[DML_IDENTITY_SIZE / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return dml_fail(DML_ERROR_IO, "random bytes: %s", strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(identity + 2 * i, 3, "%02x", bytes[i]);
    return DML_OK;
}

/* JSON is UTF-8; anything else in a path or a command is escaped. */
static bool add_text(cJSON *root, const char *name, const char *text) {
    char *escaped = dml_text_escape(text);
    bool added = escaped && cJSON_AddStringToObject(root, name, escaped);
    free(escaped);
    return added;
}

/* run.json in `place`, which is the folder or the one that is about to become it. */
static enum dml_status write_run(const struct dml_run_folder *folder, const char *place,
                                 const char *real) {
    char *path = dml_path_join(place, run_file), *text = NULL;
    char *save_path = realpath(folder->save_path, NULL);
    cJSON *root = cJSON_CreateObject();
    if (root && cJSON_AddNumberToObject(root, "format", RUN_FORMAT) &&
        cJSON_AddStringToObject(root, "identity", folder->identity) &&
        (!*folder->copy_of || cJSON_AddStringToObject(root, "copy_of", folder->copy_of)) &&
        add_text(root, "folder", real) &&
        add_text(root, "save_path", save_path ? save_path : folder->save_path) &&
        (!folder->command || add_text(root, "command", folder->command)) &&
        (!folder->finished ||
         cJSON_AddNumberToObject(root, "finished_step", (double)folder->finished_step)))
        text = cJSON_Print(root);
    cJSON_Delete(root);
    enum dml_status status = path && text ? dml_write_file(path, text, strlen(text))
                                          : dml_fail(DML_ERROR_MEMORY, "out of memory: run.json");
    free(save_path);
    free(path);
    free(text);
    return status;
}

static enum dml_status write_params(const char *place, const struct dml_params *params) {
    char *json = NULL, *path = dml_path_join(place, params_file);
    enum dml_status status = path ? dml_params_to_json(params, &json) : DML_ERROR_MEMORY;
    if (!status)
        status = dml_write_file(path, json, strlen(json));
    free(json);
    free(path);
    return status;
}

enum dml_status dml_run_folder_params(const struct dml_run_folder *folder,
                                      const struct dml_params *params) {
    return write_params(folder->path, params);
}

static void remove_in(const char *folder, const char *name) {
    char *path = dml_path_join(folder, name);
    if (path)
        unlink(path);
    free(path);
}

/* Fills a folder that does not have its final name yet with all that a run's begins with. */
static enum dml_status fill(struct dml_run_folder *folder, const char *place, const char *real,
                            const struct dml_params *params) {
    char *lock = dml_path_join(place, DML_RUN_LOCK);
    enum dml_status status = lock ? dml_lock_take(lock, &folder->lock) : DML_ERROR_MEMORY;
    free(lock);
    if (!status)
        status = write_run(folder, place, real);
    return status ? status : write_params(place, params);
}

static void empty(struct dml_run_folder *folder, const char *place) {
    remove_in(place, run_file);
    remove_in(place, params_file);
    dml_output_clean(place, NULL);
    dml_lock_release(&folder->lock);
    rmdir(place);
}

#define NEW_FOLDER ".new-"

/* Removes folders that killed processes were about to make. */
static void clean_parent(const char *parent) {
    DIR *entries = opendir(parent);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (strncmp(entry->d_name, NEW_FOLDER, strlen(NEW_FOLDER)) != 0)
            continue;
        bool unsure = false;
        char *place = dml_path_join(parent, entry->d_name);
        char *lock = place ? dml_path_join(place, DML_RUN_LOCK) : NULL;
        struct stat info;
        if (!lock || lstat(place, &info) != 0 || !S_ISDIR(info.st_mode)) { /* a link, say */
            free(lock);
            free(place);
            continue;
        }
        bool begun = dml_path_exists(lock);
        bool old = time(NULL) - info.st_mtime > NEW_SECONDS;
        if (begun ? !dml_lock_held(lock, &unsure) && !unsure : old) {
            unlink(lock);
            empty(&(struct dml_run_folder){0}, place);
        }
        free(lock);
        free(place);
    }
    if (entries)
        closedir(entries);
}

/* Gives the new folder the first free name. Renaming decides between two runs that start at once: a
 * folder that is not empty is never replaced. */
static enum dml_status settle(struct dml_run_folder *folder, const char *parent, const char *wanted,
                              const char *place, const struct dml_params *params) {
    char *real_parent = realpath(parent, NULL);
    enum dml_status status = real_parent ? DML_OK : DML_ERROR_MEMORY;
    for (int suffix = 0; !status; suffix++) {
        free(folder->name);
        free(folder->path);
        folder->path = NULL;
        folder->name = suffix ? dml_format("%s_%d", wanted, suffix) : dml_strdup(wanted);
        folder->path = folder->name ? dml_path_join(parent, folder->name) : NULL;
        char *real = folder->name ? dml_path_join(real_parent, folder->name) : NULL;
        bool taken = folder->path && dml_path_exists(folder->path);
        if (!folder->path || !real)
            status = DML_ERROR_MEMORY;
        else if (!taken)
            status = folder->lock.path ? write_run(folder, place, real)
                                       : fill(folder, place, real, params);
        free(real);
        if (status || taken)
            continue;
        if (rename(place, folder->path) == 0)
            break;
        if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
            status =
                dml_fail(DML_ERROR_IO, "%s: cannot be made: %s", folder->path, strerror(errno));
    }
    free(real_parent);
    if (status)
        return status;
    free(folder->lock.path);
    folder->lock.path = dml_path_join(folder->path, DML_RUN_LOCK);
    return folder->lock.path ? DML_OK : DML_ERROR_MEMORY;
}

enum dml_status dml_run_folder_make(const struct dml_params *params, const char *command,
                                    struct dml_run_folder *out) {
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    const struct dml_dataset_options *data = dml_params_options(params, &dml_dataset_params);
    *out = (struct dml_run_folder){
        .save_path = dml_strdup(setup->save_path), .command = dml_strdup(command), .lock.fd = -1};
    char *parent = dml_path_join(setup->save_path, data->dataset);
    char *wanted = wanted_name(params, data->dataset);
    enum dml_status status = parent && wanted && out->save_path && out->command
                                 ? dml_make_folders(parent)
                                 : DML_ERROR_MEMORY;
    if (!status)
        status = make_identity(out->identity);
    char *place = status ? NULL : dml_format("%s/" NEW_FOLDER "%s", parent, out->identity);
    if (!status && !place)
        status = DML_ERROR_MEMORY;
    if (!status)
        clean_parent(parent);
    if (!status && mkdir(place, 0777) != 0)
        status = dml_fail(DML_ERROR_IO, "%s: cannot be made: %s", place, strerror(errno));
    if (!status && (status = settle(out, parent, wanted, place, params)))
        empty(out, place);
    if (status)
        dml_run_folder_close(out);
    free(place);
    free(parent);
    free(wanted);
    return status;
}

bool dml_resume_has_state(const char *resume) {
    return *resume && !dml_is_folder(resume);
}

/* The folder of the run whose state or folder is given with --resume; NULL where it is not a
 * run's. */
static char *folder_of(const char *resume) {
    char *resolved = realpath(resume, NULL);
    if (resolved && dml_resume_has_state(resume)) {
        char *slash = strrchr(resolved, '/');
        *slash = 0;
    }
    char *file = resolved && *resolved ? dml_path_join(resolved, params_file) : NULL;
    bool is_run = file && dml_path_exists(file);
    free(file);
    if (is_run)
        return resolved;
    free(resolved);
    return NULL;
}

/* *out is NULL where there is none. */
static enum dml_status read_run(const char *folder, cJSON **out) {
    char *path = dml_path_join(folder, run_file), *text = NULL;
    enum dml_status status = path ? DML_OK : DML_ERROR_MEMORY;
    *out = NULL;
    if (!status && dml_path_exists(path)) {
        status = dml_read_file(path, &text, NULL);
        if (!status)
            status = dml_json_parse(text, strlen(text), out, "%s: cannot be read as JSON", path);
    }
    for (cJSON *item = *out ? (*out)->child : NULL; item; item = item->next)
        if (cJSON_IsString(item))
            dml_text_unescape(item->valuestring);
    free(text);
    free(path);
    return status;
}

/* "" where there is none. */
static const char *word(const cJSON *root, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static bool same_file(const char *a, const char *b) {
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

/* Whether the run still is where it last was, and this folder is a copy of it. */
static bool is_copy(const cJSON *own, const char *path) {
    const char *before = word(own, "folder");
    if (!*before || same_file(before, path))
        return false;
    cJSON *other;
    bool copy = read_run(before, &other) == DML_OK &&
                strcmp(word(other, "identity"), word(own, "identity")) == 0;
    cJSON_Delete(other);
    return copy;
}

/* <dataset>/<savename> of where the run was last, or "". */
static const char *below_save_path(const cJSON *own) {
    const char *folder = word(own, "folder"), *save_path = word(own, "save_path");
    size_t length = strlen(save_path);
    bool below = length && strncmp(folder, save_path, length) == 0 && folder[length] == '/';
    return below ? folder + length + 1 : "";
}

/* The save path of a run that continues: the one given here; the one above the folder, if the whole
 * tree was moved or is seen from elsewhere; the one it had, if only the folder was moved. */
static char *find_save_path(const struct dml_params *params, const cJSON *own, const char *path) {
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    const struct dml_dataset_options *data = dml_params_options(params, &dml_dataset_params);
    if (dml_params_given(params, "save_path") && dml_make_folders(setup->save_path) == DML_OK)
        return realpath(setup->save_path, NULL);
    const char *below = below_save_path(own);
    size_t length = strlen(path), tail = strlen(below);
    if (tail && length > tail + 1 && strcmp(path + length - tail, below) == 0 &&
        path[length - tail - 1] == '/')
        return dml_format("%.*s", (int)(length - tail - 1), path);
    char *database = dml_path_join(word(own, "save_path"), "runs.sqlite");
    bool there = *word(own, "save_path") && database && dml_path_exists(database);
    free(database);
    if (there)
        return dml_strdup(word(own, "save_path"));
    char *parent = dml_format("%.*s", (int)(strrchr(path, '/') - path), path);
    char *slash = parent ? strrchr(parent, '/') : NULL;
    if (slash && slash != parent && strcmp(slash + 1, data->dataset) == 0)
        *slash = 0;
    if (parent && !*parent)
        strcpy(parent, "/");
    return parent;
}

/* Who the run is; a folder whose run.json was lost takes its identity from the state. */
static enum dml_status identify(const struct dml_params *params, struct dml_run_folder *out) {
    cJSON *own;
    enum dml_status status = read_run(out->path, &own);
    if (status)
        return status;
    const cJSON *step = cJSON_GetObjectItemCaseSensitive(own, "finished_step");
    snprintf(out->identity, sizeof out->identity, "%s", word(own, "identity"));
    snprintf(out->copy_of, sizeof out->copy_of, "%s", word(own, "copy_of"));
    out->finished_step = 0;
    out->finished = dml_json_count(step, &out->finished_step);
    out->save_path = find_save_path(params, own, out->path);
    out->command = *word(own, "command") ? dml_strdup(word(own, "command")) : NULL;
    if (!out->save_path || (*word(own, "command") && !out->command))
        status = DML_ERROR_MEMORY;
    if (out->command)
        dml_text_unescape(out->command);
    bool elsewhere = strcmp(word(own, "folder"), out->path) != 0 ||
                     (out->save_path && strcmp(word(own, "save_path"), out->save_path) != 0);
    if (!status && *out->identity && is_copy(own, out->path)) {
        dml_inform("%s: is a copy of %s; it continues as a run of its own", out->path,
                   word(own, "folder"));
        memcpy(out->copy_of, out->identity, sizeof out->copy_of);
        status = make_identity(out->identity);
    }
    if (!status && *out->identity && elsewhere)
        status = write_run(out, out->path, out->path);
    cJSON_Delete(own);
    return status;
}

/* A folder may come from elsewhere. What a run writes in place must be its own: a link could lead
 * to a file of somebody else's, and opening a pipe could wait forever. `type`: what is expected, or
 * 0 for a file or a folder. */
static enum dml_status check_own(const char *path, mode_t type) {
    struct stat info;
    if (lstat(path, &info) != 0)
        return DML_OK; /* not there yet */
    mode_t is = info.st_mode & S_IFMT;
    if (type ? is == type : is == S_IFREG || is == S_IFDIR)
        return DML_OK;
    return dml_fail(DML_ERROR_INPUT, "%s: is %s: a run is not continued through it", path,
                    S_ISLNK(is)   ? "a link"
                    : S_ISDIR(is) ? "a folder"
                    : S_ISREG(is) ? "a file and not a folder"
                                  : "not a file");
}

static enum dml_status check_own_in(const char *folder) {
    DIR *entries = opendir(folder);
    enum dml_status status = DML_OK;
    for (struct dirent *entry; entries && !status && (entry = readdir(entries));) {
        char *path = dml_path_join(folder, entry->d_name);
        status = path ? check_own(path, 0) : DML_ERROR_MEMORY;
        free(path);
    }
    if (entries)
        closedir(entries);
    return status;
}

static const char *const own_folders[] = {"CSV_Logs", "Progression_Plots"};
enum { OWN_FOLDERS = sizeof own_folders / sizeof own_folders[0] };

static enum dml_status check_links(const char *folder) {
    static const char *const files[] = {DML_RUN_LOCK, "wandb_sync.log"};
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < sizeof files / sizeof files[0] && !status; i++) {
        char *path = dml_path_join(folder, files[i]);
        status = path ? check_own(path, S_IFREG) : DML_ERROR_MEMORY;
        free(path);
    }
    for (size_t i = 0; i < OWN_FOLDERS && !status; i++) {
        char *path = dml_path_join(folder, own_folders[i]);
        status = path ? check_own(path, S_IFDIR) : DML_ERROR_MEMORY;
        if (!status)
            status = check_own_in(path);
        free(path);
    }
    return status;
}

/* Removes the temporary files that killed processes left. */
static void clean(const char *folder) {
    dml_output_clean(folder, NULL);
    for (size_t i = 0; i < OWN_FOLDERS; i++) {
        char *place = dml_path_join(folder, own_folders[i]);
        if (place)
            dml_output_clean(place, NULL);
        free(place);
    }
}

enum dml_status dml_run_folder_take_up(const struct dml_params *params,
                                       struct dml_run_folder *out) {
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    *out = (struct dml_run_folder){.lock.fd = -1};
    if (!*setup->resume || dml_params_given(params, "savename"))
        return DML_OK;
    out->path = folder_of(setup->resume);
    if (!out->path)
        return DML_OK;
    out->in_place = true;
    out->name = dml_strdup(strrchr(out->path, '/') + 1);
    char *lock = dml_path_join(out->path, DML_RUN_LOCK);
    enum dml_status status = lock && out->name ? check_links(out->path) : DML_ERROR_MEMORY;
    if (!status)
        status = dml_lock_take(lock, &out->lock);
    free(lock);
    if (!status) {
        clean(out->path);
        status = identify(params, out);
    }
    if (!status && !*out->identity && !dml_resume_has_state(setup->resume)) {
        status = make_identity(out->identity);
        if (!status)
            status = write_run(out, out->path, out->path);
    }
    if (status)
        dml_run_folder_close(out);
    return status;
}

enum dml_status dml_run_folder_check(struct dml_run_folder *folder, const char *state,
                                     const char *identity) {
    if (!*folder->identity) {
        snprintf(folder->identity, sizeof folder->identity, "%s", identity);
        return write_run(folder, folder->path, folder->path);
    }
    if (strcmp(identity, folder->identity) == 0 || strcmp(identity, folder->copy_of) == 0)
        return DML_OK;
    return dml_fail(DML_ERROR_INPUT,
                    "%s: is the state of a different run than its folder's; with --savename it "
                    "continues in a folder of its own",
                    state);
}

enum dml_status dml_run_folder_finish(struct dml_run_folder *folder, bool finished, uint64_t step) {
    if (!finished && !folder->finished)
        return DML_OK;
    char *real = realpath(folder->path, NULL);
    folder->finished = finished;
    folder->finished_step = step;
    enum dml_status status =
        real ? write_run(folder, folder->path, real)
             : dml_fail(DML_ERROR_IO, "%s: is gone: %s", folder->path, strerror(errno));
    free(real);
    return status;
}

void dml_run_folder_close(struct dml_run_folder *folder) {
    dml_lock_release(&folder->lock);
    free(folder->path);
    free(folder->name);
    free(folder->save_path);
    free(folder->command);
    *folder = (struct dml_run_folder){.lock.fd = -1};
}
