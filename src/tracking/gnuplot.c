#include "tracking/gnuplot.h"

#include "base/memory.h"
#include "tracking/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What stands in the last bytes of a whole picture. */
static const struct {
    const char *format, *end;
} pictures[] = {{"svg", "</svg>"}, {"png", "IEND"}, {"pdf", "%%EOF"}};
enum { LAST_BYTES = 16 };

enum dml_status dml_gnuplot_start(const char *folder, char *const *scripts, size_t count,
                                  const char *log, pid_t *child) {
    const char **command = dml_alloc(count + 2, sizeof *command);
    if (!command)
        return DML_ERROR_MEMORY;
    command[0] = "gnuplot";
    for (size_t i = 0; i < count; i++)
        command[i + 1] = scripts[i];
    enum dml_status status = dml_process_start(command, folder, log, child);
    free(command);
    return status;
}

static enum dml_status check_picture(const char *path, const char *end) {
    FILE *file = fopen(path, "rb");
    if (!file) /* of a format that is not drawn */
        return DML_OK;
    char last[LAST_BYTES];
    size_t size = fseek(file, -LAST_BYTES, SEEK_END) ? 0 : fread(last, 1, sizeof last, file);
    fclose(file);
    if (memmem(last, size, end, strlen(end)))
        return DML_OK;
    remove(path);
    return dml_fail(DML_ERROR_IO, "%s: gnuplot could not write all of it: is the disk full?", path);
}

enum dml_status dml_gnuplot_check(const char *folder, const char *script) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; !status && i < sizeof pictures / sizeof pictures[0]; i++) {
        char *path =
            dml_format("%s/%.*s%s", folder, (int)strlen(script) - 2, script, pictures[i].format);
        status = path ? check_picture(path, pictures[i].end) : DML_ERROR_MEMORY;
        free(path);
    }
    return status;
}

enum dml_status dml_gnuplot_draw(const char *folder, char *script, double seconds) {
    char *log = dml_format("%s/%s.log", folder, script);
    pid_t child;
    bool failed = false;
    enum dml_status status =
        log ? dml_gnuplot_start(folder, &script, 1, log, &child) : DML_ERROR_MEMORY;
    if (!status && !dml_process_ended(child, seconds, &failed)) {
        dml_process_kill(child);
        failed = true;
    }
    enum dml_status torn = status ? DML_OK : dml_gnuplot_check(folder, script);
    if (!status && failed)
        status = dml_fail(DML_ERROR_IO, "gnuplot failed on %s/%s: see %s", folder, script, log);
    else if (!status)
        remove(log);
    free(log);
    return status ? status : torn;
}
