#include "support/golden.h"

#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

char **golden_cases(const char *relative, size_t *count) {
    size_t all, cases = 0;
    char **names = golden_files(relative, &all);
    for (size_t i = 0; i < all; i++) {
        struct stat found;
        if (stat(golden_path("%s/%s", relative, names[i]), &found) == 0 && S_ISREG(found.st_mode))
            free(names[i]);
        else
            names[cases++] = names[i];
    }
    assert_true(cases > 0);
    announce(relative, cases);
    *count = cases;
    return names;
}

static void add_flag(const cJSON *value, char *out, size_t size) {
    size_t used = strlen(out);
    if (cJSON_IsNumber(value))
        snprintf(out + used, size - used, " %.17g", value->valuedouble);
    else if (cJSON_IsString(value))
        snprintf(out + used, size - used, " %s", value->valuestring);
    assert_true(strlen(out) + 1 < size);
}

void golden_flags(const cJSON *flags, const char *except, char *out, size_t size) {
    const cJSON *flag, *item;
    *out = 0;
    cJSON_ArrayForEach(flag, flags) {
        if ((except && strcmp(flag->string, except) == 0) || cJSON_IsFalse(flag) ||
            cJSON_IsNull(flag))
            continue;
        size_t used = strlen(out);
        assert_true((size_t)snprintf(out + used, size - used, " --%s", flag->string) < size - used);
        add_flag(flag, out, size);
        cJSON_ArrayForEach(item, flag) add_flag(item, out, size);
    }
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
