#include "cli/cli.h"

#include "base/files.h"
#include "base/memory.h"
#include "base/npy.h"
#include "cli/embedded.h"

#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: dml embed --checkpoint FILE [--source_path FOLDER] [--dataset NAME] --out PREFIX\n"
    "       dml embed --checkpoint FILE --images IMAGE|FOLDER|LIST ... --out PREFIX\n"
    "\n"
    "Embeds images with a checkpoint's network. Writes PREFIX_embeddings.npy (float32, n x dim),\n"
    "PREFIX_labels.npy (int64: the classes of the data set, or one for each folder with images)\n"
    "and PREFIX_paths.txt (one path a line), all in the same order.\n";

struct embed_options {
    char *checkpoint, *part, *out;
    struct dml_strings images;
};

#define AT(field) offsetof(struct embed_options, field)
static const struct dml_param rows[] = {
    {"checkpoint", DML_PARAM_STRING, AT(checkpoint), .help = "Checkpoint of a run."},
    {"out", DML_PARAM_STRING, AT(out), .help = "What the names of the files begin with."},
    {"images", DML_PARAM_STRINGS, AT(images),
     .help = "Images, folders of images, and text files with one path a line. Without it: the data "
             "set of the flags or the checkpoint."},
    {"part", DML_PARAM_STRING, AT(part), "testing", .choices = dml_cli_parts,
     .help = "Which images of the data set."},
};
#undef AT
static const struct dml_param_table table = {"Embedding", sizeof(struct embed_options), rows,
                                             sizeof rows / sizeof rows[0]};

static enum dml_status write_paths(const char *path, const struct dml_part *part) {
    struct dml_output output;
    enum dml_status status = dml_output_open(&output, path);
    if (status)
        return status;
    for (size_t i = 0; i < part->images; i++)
        fprintf(output.file, "%s\n", part->paths[i]);
    return dml_output_commit(&output);
}

static enum dml_status write_labels(const char *path, const struct dml_part *part) {
    int64_t *labels = dml_alloc(part->images, sizeof *labels);
    if (!labels)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < part->images; i++)
        labels[i] = part->labels[i];
    enum dml_status status = dml_npy_write(path, DML_NPY_I64, labels, &part->images, 1);
    free(labels);
    return status;
}

static enum dml_status write_all(const struct dml_embedded *embedded, const char *prefix) {
    const struct dml_part *part = embedded->part;
    char *embeddings = dml_format("%s_embeddings.npy", prefix);
    char *labels = dml_format("%s_labels.npy", prefix);
    char *paths = dml_format("%s_paths.txt", prefix);
    enum dml_status status = embeddings && labels && paths ? DML_OK : DML_ERROR_MEMORY;
    const size_t dims[] = {part->images, embedded->dim};
    if (!status)
        status = dml_npy_write(embeddings, DML_NPY_F32, embedded->embeddings, dims, 2);
    if (!status)
        status = write_labels(labels, part);
    if (!status)
        status = write_paths(paths, part);
    if (!status)
        printf("%s: %zu embeddings of %zu dimensions\n%s: %zu classes\n%s\n", embeddings,
               part->images, embedded->dim, labels, part->classes, paths);
    free(embeddings);
    free(labels);
    free(paths);
    return status;
}

int dml_embed_main(int argc, char **argv) {
    struct dml_params *params;
    struct dml_model model = {0};
    struct dml_embedded embedded = {0};
    enum dml_status status = dml_cli_params(&table, usage, argc, argv, &params);
    if (!status && params) {
        const struct embed_options *o = dml_params_options(params, &table);
        if (!*o->checkpoint || !*o->out)
            status = dml_fail(DML_ERROR_USAGE, "--%s is missing", *o->out ? "checkpoint" : "out");
        if (!status)
            status = dml_model_open(o->checkpoint, params, &model);
        if (!status)
            status = dml_embedded_make(&model, params, &o->images, o->part, &embedded);
        if (!status)
            status = write_all(&embedded, o->out);
    }
    dml_embedded_free(&embedded);
    dml_model_close(&model);
    dml_params_free(params);
    return dml_cli_finish("embed", status);
}
