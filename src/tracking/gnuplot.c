#include "tracking/gnuplot.h"

#include "base/memory.h"
#include "tracking/process.h"

#include <stdio.h>
#include <stdlib.h>

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
    if (!status && failed)
        status = dml_fail(DML_ERROR_IO, "gnuplot failed on %s/%s: see %s", folder, script, log);
    else if (!status)
        remove(log);
    free(log);
    return status;
}
