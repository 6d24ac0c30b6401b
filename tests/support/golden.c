#include "support/golden.h"

#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *path_of(const char *format, va_list arguments) {
    static char path[4096];
    const char *folder = getenv("DML_GOLDEN");
    if (!folder || !*folder)
        folder = DML_SOURCE_DIR "/tests/golden";
    int used = snprintf(path, sizeof path, "%s/", folder);
    vsnprintf(path + used, sizeof path - (size_t)used, format, arguments);
    return path;
}

const char *golden_path(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const char *path = path_of(format, arguments);
    va_end(arguments);
    return path;
}

bool golden_exists(const char *relative) {
    return dml_path_exists(golden_path("%s", relative));
}

float *golden_floats(size_t *count, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const char *path = path_of(format, arguments);
    va_end(arguments);
    struct dml_npy npy;
    float *values;
    assert_ok(dml_npy_open(path, &npy));
    assert_ok(dml_npy_floats(&npy, &values));
    if (count)
        *count = npy.count;
    dml_npy_close(&npy);
    return values;
}

double *golden_doubles(size_t *count, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const char *path = path_of(format, arguments);
    va_end(arguments);
    struct dml_npy npy;
    assert_ok(dml_npy_open(path, &npy));
    double *values = malloc((npy.count + 1) * sizeof *values);
    assert_non_null(values);
    if (npy.type == DML_NPY_F64 && !npy.fortran_order) {
        memcpy(values, npy.data, npy.count * sizeof *values);
    } else {
        float *narrow;
        assert_ok(dml_npy_floats(&npy, &narrow));
        for (size_t i = 0; i < npy.count; i++)
            values[i] = narrow[i];
        free(narrow);
    }
    if (count)
        *count = npy.count;
    dml_npy_close(&npy);
    return values;
}

int32_t *golden_ints(size_t *count, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const char *path = path_of(format, arguments);
    va_end(arguments);
    struct dml_npy npy;
    int32_t *values;
    assert_ok(dml_npy_open(path, &npy));
    assert_ok(dml_npy_int32(&npy, &values));
    if (count)
        *count = npy.count;
    dml_npy_close(&npy);
    return values;
}

cJSON *golden_json(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const char *path = path_of(format, arguments);
    va_end(arguments);
    char *text;
    assert_ok(dml_read_file(path, &text, NULL));
    cJSON *json = cJSON_Parse(text);
    assert_non_null(json);
    free(text);
    return json;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Tells a folder's cases once, however many tests go over them. */
static void announce(const char *relative, size_t count) {
    static const char *last;
    if (!last || strcmp(last, relative) != 0)
        print_message("%s: %zu cases\n", relative, count);
    last = relative;
}

char **golden_files(const char *relative, size_t *count) {
    DIR *folder = opendir(golden_path("%s", relative));
    if (!folder)
        fail_msg("there is no folder %s", golden_path("%s", relative));
    char **names = NULL;
    *count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        names = realloc(names, (*count + 1) * sizeof *names);
        assert_non_null(names);
        names[(*count)++] = strdup(entry->d_name);
    }
    closedir(folder);
    assert_true(*count > 0);
    qsort(names, *count, sizeof *names, by_name);
    return names;
}

char **golden_names(const char *relative, size_t *count) {
    char **names = golden_files(relative, count);
    announce(relative, *count);
    return names;
}

void golden_free_names(char **names, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

double relative_error(const float *a, const double *b, size_t n, double floor) {
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    return sqrt(error) / fmax(sqrt(size), floor);
}
