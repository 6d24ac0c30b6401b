#include "cli/cli.h"

#include "base/files.h"
#include "base/memory.h"
#include "base/npy.h"
#include "base/text.h"
#include "cli/embedded.h"
#include "cli/ranks.h"
#include "train/ranks.h"

#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: dml embed --checkpoint FILE [--source_path FOLDER] [--dataset NAME] --out PREFIX\n"
    "       dml embed --checkpoint FILE --images IMAGE|FOLDER|LIST ... --out PREFIX\n"
    "       dml embed --arch NAME [--weights FILE] --images IMAGE|FOLDER|LIST ... --out PREFIX\n"
    "\n"
    "Embeds images with a checkpoint's network, or with a pretrained backbone, whose features are\n"
    "the embeddings. Writes PREFIX_embeddings.npy (float32, n x dim), PREFIX_labels.npy (int64:\n"
    "the classes of the data set, or one for each folder with images) and PREFIX_paths.txt (one\n"
    "path a line, with \\x0a and the like for what is not UTF-8 or would end the line), all in\n"
    "the same order. An image that cannot be read is an error. `dml eval` and `dml search` read\n"
    "the files. Several processes (--ranks, mpirun, srun) share the images.\n"
    "\n"
    "  dml embed --checkpoint C.safetensors --images photos/ --out photos\n"
    "  dml embed --arch vit_small_patch14_dinov2 --weights dinov2_vits14_pretrain.pth \\\n"
    "      --images photos/ --out photos\n";

struct embed_options {
    char *checkpoint, *out;
    enum dml_cli_part part;
    struct dml_strings images;
};

#define AT(field) offsetof(struct embed_options, field)
static const struct dml_param rows[] = {
    {"checkpoint", DML_PARAM_STRING, AT(checkpoint),
     .help = "Checkpoint of a run: checkpoint_*.safetensors in its folder."},
    {"out", DML_PARAM_STRING, AT(out),
     .help = "What the files' names begin with, such as results/photos; the folder must exist."},
    {"images", DML_PARAM_STRINGS, AT(images),
     .help =
         "JPEG or PNG files, folders (with all images below them), and text files with one path "
         "a line. Without it: the checkpoint's data set, or that of the flags below."},
    {"part", DML_PARAM_CHOICE, AT(part), "testing", .choices = dml_cli_parts,
     .help = "Which images of the data set to embed, without --images."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Embedding", struct embed_options, rows);

static enum dml_status write_paths(const char *path, const struct dml_part *part) {
    struct dml_output output;
    enum dml_status status = dml_output_open(&output, path);
    if (status)
        return status;
    for (size_t i = 0; i < part->images && !status; i++) {
        char *line = dml_text_escape(part->paths[i]);
        if (line)
            fprintf(output.file, "%s\n", line);
        else
            status = DML_ERROR_MEMORY;
        free(line);
    }
    if (!status)
        return dml_output_commit(&output);
    dml_output_discard(&output);
    return status;
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

/* The files whose names begin with --out. */
struct names {
    char *embeddings, *labels, *paths;
};

static void free_names(struct names *names) {
    free(names->embeddings);
    free(names->labels);
    free(names->paths);
}

/* That they cannot be written is reported before anything is embedded. */
static enum dml_status make_names(const char *prefix, struct names *out) {
    out->embeddings = dml_format("%s_embeddings.npy", prefix);
    out->labels = dml_format("%s_labels.npy", prefix);
    out->paths = dml_format("%s_paths.txt", prefix);
    if (!out->embeddings || !out->labels || !out->paths)
        return DML_ERROR_MEMORY;
    enum dml_status status = dml_output_check(out->embeddings);
    if (!status)
        status = dml_output_check(out->labels);
    if (!status)
        status = dml_output_check(out->paths);
    return status ? dml_fail_within(status, "--out") : DML_OK;
}

static enum dml_status write_all(const struct dml_embedded *embedded, const struct names *names) {
    const struct dml_part *part = embedded->part;
    const size_t dims[] = {part->images, embedded->dim};
    enum dml_status status =
        dml_npy_write(names->embeddings, DML_NPY_F32, embedded->embeddings, dims, 2);
    if (!status)
        status = write_labels(names->labels, part);
    if (!status)
        status = write_paths(names->paths, part);
    if (!status)
        dml_cli_print("%s: %zu embeddings of %zu dimensions\n%s: %zu classes\n%s\n",
                      names->embeddings, part->images, embedded->dim, names->labels, part->classes,
                      names->paths);
    return status;
}

/* Runs as one of the ranks: each embeds its part of the images, and rank 0 writes the files. */
static enum dml_status embed(void *data, struct dml_comm *comm, const volatile sig_atomic_t *stop) {
    struct dml_params *params = data;
    const struct embed_options *o = dml_params_options(params, &table);
    struct dml_model model = {0};
    struct dml_embedded embedded = {0};
    struct names names = {0};
    enum dml_status status = dml_ranks_agree(comm, params);
    if (!status && comm->rank == 0)
        status = make_names(o->out, &names);
    if (!status)
        status = dml_cli_open_model(o->checkpoint, params, comm, &model);
    if (!status)
        status = dml_embedded_open(&model, params, &o->images, o->part, &embedded);
    if (!status)
        status = dml_embedded_compute(&model, params, stop, &embedded);
    if (!status)
        status = dml_comm_alone_begin(comm);
    if (!status && comm->rank == 0)
        status = write_all(&embedded, &names);
    status = dml_comm_alone_end(comm, status);
    free_names(&names);
    dml_embedded_free(&embedded);
    dml_model_close(&model);
    return status;
}

int dml_embed_main(int argc, char **argv) {
    struct dml_params *params;
    enum dml_status status = dml_cli_params(&table, NULL, usage, argc, argv, &params);
    if (!status && !params)
        return 0;
    if (!status && !*((const struct embed_options *)dml_params_options(params, &table))->out)
        status = dml_fail(DML_ERROR_USAGE, "--out is missing");
    int code = dml_cli_run_ranks("embed", status, params, argv, embed, params, NULL);
    dml_params_free(params);
    return code;
}
