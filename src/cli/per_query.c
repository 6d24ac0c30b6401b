#include "cli/per_query.h"

#include "base/files.h"
#include "base/memory.h"
#include "base/npy.h"
#include "base/number.h"
#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OWN = 3, PER_SPACE = 4 }; /* columns */

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length > tail && strcmp(text + length - tail, end) == 0;
}

enum dml_status dml_per_query_check(const char *path) {
    if (!ends_with(path, ".csv") && !ends_with(path, ".npy"))
        return dml_fail(DML_ERROR_USAGE, "--per_query %s: the name must end in .csv or .npy", path);
    enum dml_status status = dml_output_check(path);
    return status ? dml_fail_within(status, "--per_query") : DML_OK;
}

static double first_hit(const struct dml_query_scores *scores, size_t q) {
    return scores->first_hit[q] ? scores->first_hit[q] : NAN;
}

static void fill(const struct dml_query_scores *scores, size_t q, double *out) {
    out[0] = first_hit(scores, q);
    out[1] = scores->ap[q];
    out[2] = scores->ap_at_r[q];
    out[3] = scores->r_precision[q];
}

/* The numbers of query q; returns how many. */
static size_t row_of(const struct dml_per_query *p, const int32_t *labels,
                     const struct dml_query_names *names, size_t q,
                     double out[OWN + 2 * PER_SPACE]) {
    size_t count = OWN, sample = p->query[q];
    out[0] = (double)sample;
    out[1] = names->own_labels ? (double)names->own_labels[sample] : labels[sample];
    out[2] = p->positives[q];
    const struct dml_query_scores *spaces[] = {&p->euclidean, &p->cosine};
    for (int s = 0; s < 2; s++)
        if (spaces[s]->first_hit) {
            fill(spaces[s], q, out + count);
            count += PER_SPACE;
        }
    return count;
}

/* A label of 64 bits, which a double may not hold. */
static void put_label(FILE *out, __int128 label) {
    __int128 size = label < 0 ? -label : label;
    fprintf(out, ",%s%llu", label < 0 ? "-" : "", (unsigned long long)size);
}

static enum dml_status write_csv(const char *path, const struct dml_per_query *p,
                                 const int32_t *labels, const struct dml_query_names *names) {
    struct dml_output output;
    enum dml_status status = dml_output_open(&output, path);
    if (status)
        return status;
    fprintf(output.file, "query,%slabel,positives", names->paths ? "path," : "");
    if (p->euclidean.first_hit)
        fputs(",first_hit,AP,AP@R,r_precision", output.file);
    if (p->cosine.first_hit)
        fputs(",c_first_hit,c_AP,c_AP@R,c_r_precision", output.file);
    fputs("\n", output.file);
    for (size_t q = 0; q < p->queries; q++) {
        double row[OWN + 2 * PER_SPACE];
        size_t count = row_of(p, labels, names, q, row);
        char text[DML_NUMBER_SIZE];
        for (size_t c = 0; c < count; c++) {
            if (c == 1 && names->own_labels)
                put_label(output.file, names->own_labels[p->query[q]]);
            else
                fprintf(output.file, "%s%s", c ? "," : "",
                        isnan(row[c]) ? "" : dml_number_text(row[c], text));
            if (c == 0 && names->paths) {
                fputc(',', output.file);
                dml_text_csv_line(output.file, names->paths[p->query[q]]);
            }
        }
        fputs("\n", output.file);
    }
    return dml_output_commit(&output);
}

static enum dml_status write_npy(const char *path, const struct dml_per_query *p,
                                 const int32_t *labels, const struct dml_query_names *names) {
    double row[OWN + 2 * PER_SPACE];
    size_t width = row_of(p, labels, names, 0, row);
    double *all = dml_alloc(p->queries * width, sizeof *all);
    if (!all)
        return DML_ERROR_MEMORY;
    for (size_t q = 0; q < p->queries; q++) {
        row_of(p, labels, names, q, row);
        memcpy(all + q * width, row, width * sizeof *row);
    }
    enum dml_status status =
        dml_npy_write(path, DML_NPY_F64, all, (size_t[]){p->queries, width}, 2);
    free(all);
    return status;
}

enum dml_status dml_per_query_write(const char *path, const struct dml_per_query *per_query,
                                    const int32_t *labels, const struct dml_query_names *names) {
    if (ends_with(path, ".npy"))
        return write_npy(path, per_query, labels, names);
    return write_csv(path, per_query, labels, names);
}
