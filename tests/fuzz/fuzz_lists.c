#include "data/csv.h"
#include "data/layouts/lists.h"
#include "fuzz/fuzz_file.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_table(const char *path, size_t size) {
    struct dml_csv csv;
    struct dml_csv_record record;
    enum dml_status status = dml_csv_open(path, &csv);
    size_t line = 0;
    while (!status && !(status = dml_csv_next(&csv, &record)) && record.count > 0) {
        if (record.line <= line || record.count > DML_CSV_FIELDS)
            abort();
        line = record.line;
        for (int i = 0; i < record.count; i++)
            if (strlen(record.fields[i]) > size)
                abort();
    }
    dml_csv_close(&csv);
}

static void read_list(const char *path) {
    struct dml_lines lines;
    char *words[3], *line;
    enum dml_status status = dml_lines_open(strdup(path), &lines);
    size_t number = 0;
    while (!status && (line = dml_lines_next(&lines))) {
        if (!*line || lines.number <= number)
            abort();
        number = lines.number;
        if (dml_line_words(line, 3, words) && (!*words[0] || !*words[1] || !*words[2]))
            abort();
    }
    dml_lines_close(&lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_file(data, size);
    read_table(path, size);
    read_list(path);
    return 0;
}
