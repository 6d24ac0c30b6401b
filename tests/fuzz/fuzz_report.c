#include "dml/metrics.h"
#include "report/report.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64], path[80], wal[90], shared[90];

/* In place of the library's, which knows all metrics and needs what they need. */
enum dml_metric_order dml_metric_order_of(const char *name) {
    return strncmp(name, "dists", 5) == 0 ? DML_METRIC_SMALLER : DML_METRIC_LARGER;
}

static void make_folder(void) {
    snprintf(folder, sizeof folder, "/dev/shm/dml-fuzz-XXXXXX");
    if (!mkdtemp(folder))
        abort();
    snprintf(path, sizeof path, "%s/runs.sqlite", folder);
    snprintf(wal, sizeof wal, "%s-wal", path);
    snprintf(shared, sizeof shared, "%s-shm", path);
}

static void clean(void) {
    unlink(path);
    unlink(wal);
    unlink(shared);
    rmdir(folder);
}

/* A database of runs, damaged, as tables of every format. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static FILE *nowhere;
    if (!*folder) {
        make_folder();
        atexit(clean);
        nowhere = fopen("/dev/null", "w");
    }
    FILE *file = fopen(path, "wb");
    if (!file || !nowhere || fwrite(data, 1, size, file) != size || fclose(file))
        abort();
    unlink(wal);
    unlink(shared);
    struct dml_params *params;
    struct dml_report report = {.columns = NULL};
    if (dml_params_new(&params) || dml_params_add(params, &dml_report_params))
        abort();
    struct dml_report_options *options = dml_params_options(params, &dml_report_params);
    free(options->save_path);
    options->save_path = strdup(folder);
    if (dml_report_read(options, &report) == DML_OK)
        for (int i = DML_REPORT_TERMINAL; i <= DML_REPORT_LATEX; i++)
            dml_report_print(&report, (enum dml_report_format)i, nowhere);
    dml_report_free(&report);
    dml_params_free(params);
    return 0;
}
