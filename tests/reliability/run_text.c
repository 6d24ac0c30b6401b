/* Prints all that runs left below a folder as text, but for times, machines and random names, so
 * that two runs that ought to be the same can be compared:
 *
 *     reliability_run_text FOLDER
 *
 * Every file is listed. What this program cannot read as its kind is printed as such. */
#include "base/files.h"
#include "base/memory.h"
#include "nn/weights/tensors.h"
#include "records.h"

#include <cjson/cJSON.h>
#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static bool is_one_of(const char *name, const char *const *names) {
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

/* Keys of all JSON texts that hold times, names made at random, or lengths that depend on them. */
static const char *const unsteady[] = {"identity",     "folder",
                                       "seconds",      "images_per_second",
                                       "bytes",        "train_seconds",
                                       "eval_seconds", "epoch_seconds",
                                       "file",         NULL};

/* `also`: one more such key, or "". */
static void print_json(cJSON *item, int depth, const char *also) {
    cJSON *child;
    cJSON_ArrayForEach(child, item) {
        if (child->string &&
            (is_one_of(child->string, unsteady) || strcmp(child->string, also) == 0))
            continue;
        bool log = child->string && ends_with(child->string, ".csv"); /* its length */
        char *value = child->child || log ? NULL : cJSON_PrintUnformatted(child);
        printf("%*s%s: %s\n", depth * 2, "", child->string ? child->string : "-",
               value ? value : "");
        free(value);
        print_json(child, depth + 1, also);
    }
}

static void print_json_text(const char *text, int depth, const char *also) {
    cJSON *root = cJSON_Parse(text);
    if (root)
        print_json(root, depth, also);
    else
        printf("  not JSON: %s\n", text);
    cJSON_Delete(root);
}

static unsigned long sum_of(const void *data, size_t size) {
    return crc32_z(0, data, size);
}

static void print_tensors(const char *path) {
    struct dml_tensors tensors;
    if (dml_tensors_read(path, &tensors) != DML_OK) {
        printf("  broken: %s\n", dml_error());
        return;
    }
    for (size_t i = 0; i < tensors.note_count; i++) {
        const struct dml_tensor_note *note = &tensors.notes[i];
        if (strcmp(note->key, "dml_run") == 0 || strcmp(note->key, "dml_checksum") == 0)
            continue;
        printf("  %s\n", note->key);
        if (*note->value == '{' || *note->value == '[')
            print_json_text(note->value, 2, "");
        else
            printf("    %s\n", note->value);
    }
    for (size_t i = 0; i < tensors.count; i++) {
        const struct dml_tensor *t = &tensors.items[i];
        printf("  %s %zu %08lx\n", t->name, t->count,
               sum_of(t->data, t->count * dml_dtype_size(t->dtype)));
    }
    dml_tensors_free(&tensors);
}

/* Lines without the columns that are times. */
static void print_csv(const char *path, char *text) {
    bool times = ends_with(path, "Train_time.csv");
    int seconds = -1, column = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        bool header = line == text;
        column = 0;
        printf(" ");
        for (char *field; (field = strsep(&line, ",")); column++) {
            if (header && strcmp(field, "seconds") == 0)
                seconds = column;
            bool hidden = !header && (times || column == seconds);
            printf(" %s", hidden ? "*" : field);
        }
        putchar('\n');
    }
}

static void print_rows(sqlite3 *db, const char *sql) {
    sqlite3_stmt *rows;
    if (sqlite3_prepare_v2(db, sql, -1, &rows, NULL) != SQLITE_OK) {
        printf("  %s\n", sqlite3_errmsg(db));
        return;
    }
    while (sqlite3_step(rows) == SQLITE_ROW) {
        printf(" ");
        for (int i = 0; i < sqlite3_column_count(rows); i++) {
            const char *value = (const char *)sqlite3_column_text(rows, i);
            printf(" %s", value ? value : "NULL");
        }
        putchar('\n');
    }
    sqlite3_finalize(rows);
}

static void print_database(const char *path) {
    static const char *const queries[] = {
        "SELECT id, folder, dataset, savename, project, run_group, seed, status, error,"
        " ended IS NOT NULL, command, version, processor, threads, training_images,"
        " training_classes, testing_images, testing_classes, validation_images,"
        " validation_classes, steps_per_epoch, epochs_planned, network_parameters FROM runs"
        " ORDER BY id",
        "SELECT * FROM params ORDER BY run_id, name",
        "SELECT run_id, step, epoch, loss, grad_rms, grad_max, tuples, active, swapped FROM steps"
        " ORDER BY run_id, step",
        "SELECT * FROM step_values ORDER BY run_id, name, step",
        "SELECT run_id, epoch, loss, lr, train_images, eval_images, active_share, swapped_share,"
        " replaced_images FROM epochs ORDER BY run_id, epoch",
        "SELECT * FROM metrics ORDER BY run_id, part, name, epoch",
        "SELECT * FROM vectors ORDER BY run_id, part, name, epoch"};
    sqlite3 *db;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK)
        for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++)
            print_rows(db, queries[i]);
    else
        printf("  %s\n", sqlite3_errmsg(db));
    sqlite3_close_v2(db);
}

static size_t root_length;

/* The path below the root, with names that are made of time, process or chance made plain. */
static void print_name(const char *path) {
    const char *below = path + root_length;
    const char *events = strstr(below, "events.out.tfevents.");
    const char *offline = strstr(below, "offline-run-");
    if (events)
        printf("%.*sevents\n", (int)(events - below), below);
    else if (offline && strchr(offline, '/'))
        printf("%.*soffline-run/%s\n", (int)(offline - below), below,
               ends_with(below, ".wandb") ? "run.wandb" : strchr(offline, '/') + 1);
    else
        printf("%s\n", below);
}

static char **paths;
static size_t path_count, path_capacity;

static int collect(const char *path, const struct stat *info, int kind, struct FTW *place) {
    (void)info, (void)place;
    /* SQLite's own are taken in by whoever opens the database. */
    if (kind == FTW_D || ends_with(path, "runs.sqlite-wal") || ends_with(path, "runs.sqlite-shm"))
        return 0;
    if (dml_grow(&paths, &path_capacity, path_count + 1, sizeof *paths) != DML_OK)
        return 1;
    paths[path_count++] = dml_strdup(path);
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_file(const char *path) {
    struct stat info = {0};
    char *text = NULL;
    size_t size = 0;
    print_name(path);
    if (lstat(path, &info) != 0 || !S_ISREG(info.st_mode))
        printf("  not a file\n");
    else if (info.st_size > 0 && dml_read_file(path, &text, &size) != DML_OK)
        printf("  %s\n", dml_error());
    else if (!text)
        printf("  empty\n");
    else if (ends_with(path, "Train_time.svg") || ends_with(path, ".log"))
        printf("  *\n");
    else if (ends_with(path, ".safetensors"))
        print_tensors(path);
    else if (ends_with(path, ".json"))
        print_json_text(text, 1, ends_with(path, "/run.json") ? "save_path" : "");
    else if (ends_with(path, ".csv"))
        print_csv(path, text);
    else if (ends_with(path, "runs.sqlite"))
        print_database(path);
    else if (ends_with(path, ".wandb"))
        print_wandb((const unsigned char *)text, size);
    else if (strstr(path, "events.out.tfevents."))
        print_events((const unsigned char *)text, size);
    else
        printf("  %zu %08lx\n", size, sum_of(text, size));
    free(text);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: reliability_run_text FOLDER\n");
        return 2;
    }
    root_length = strlen(argv[1]);
    if (nftw(argv[1], collect, 16, FTW_PHYS) != 0)
        return 1;
    if (path_count > 1)
        qsort(paths, path_count, sizeof *paths, by_name);
    for (size_t i = 0; i < path_count; i++) {
        print_file(paths[i]);
        free(paths[i]);
    }
    free(paths);
    return 0;
}
