#include "cli/embedded.h"

#include "cli/cli.h"
#include "data/check.h"
#include "dml/plugin.h"
#include "train/options.h"
#include "train/ranks.h"

#include <stdlib.h>
#include <string.h>

const char *const dml_cli_parts[] = {[DML_CLI_TESTING] = "testing",
                                     [DML_CLI_TRAINING] = "training",
                                     [DML_CLI_VALIDATION] = "validation",
                                     NULL};

/* Prints the flags of `dml train` that matter here. Their defaults are the checkpoint's. */
static void print_run_flags(void) {
    static const struct dml_param_table *const tables[] = {
        &dml_dataset_params, &dml_training_params, &dml_network_params, &dml_setup_params};
    struct dml_param shown[100];
    size_t count = 0;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        count += dml_param_table_select(tables[t], DML_PARAM_INFERENCE, shown + count,
                                        sizeof shown / sizeof *shown - count);
    for (size_t i = 0; i < count; i++)
        shown[i].fallback = NULL;
    const struct dml_param_table table = {
        .title = "Flags of dml train that matter here; a checkpoint supplies its run's values",
        .params = shown,
        .count = count};
    dml_param_table_help(&table, stdout);
}

enum dml_status dml_cli_params(const struct dml_param_table *table,
                               const struct dml_param_table *more, const char *usage, int argc,
                               char **argv, struct dml_params **params) {
    *params = NULL;
    enum dml_status status = dml_plugin_load_flags(argc - 1, argv + 1);
    if (!status && dml_cli_wants_help(argc, argv)) {
        fputs(usage, stdout);
        putchar('\n');
        dml_param_table_help(table, stdout);
        putchar('\n');
        if (more) {
            dml_param_table_help(more, stdout);
            putchar('\n');
        }
        print_run_flags();
        return DML_OK;
    }
    if (!status)
        status = dml_train_params(params);
    if (!status)
        status = dml_params_add(*params, table);
    if (!status && more)
        status = dml_params_add(*params, more);
    if (!status)
        status = dml_params_parse(*params, argc - 1, argv + 1);
    if (status) {
        dml_params_free(*params);
        *params = NULL;
    }
    return status;
}

enum dml_status dml_cli_open_model(const char *checkpoint, struct dml_params *params,
                                   struct dml_comm *comm, struct dml_model *out) {
    bool weights = dml_params_given(params, "weights");
    if (*checkpoint && weights)
        return dml_fail(DML_ERROR_USAGE, "--checkpoint and --weights cannot be given together");
    if (*checkpoint)
        return dml_model_open(checkpoint, params, comm, out);
    if (!dml_params_given(params, "arch"))
        return dml_fail(DML_ERROR_USAGE,
                        weights ? "--weights needs --arch" : "--checkpoint or --arch is missing");
    return dml_model_open_pretrained(params, comm, out);
}

static const struct dml_part *find_part(const struct dml_dataset *dataset, enum dml_cli_part part) {
    if (part == DML_CLI_TRAINING)
        return &dataset->training;
    return part == DML_CLI_VALIDATION ? &dataset->validation : &dataset->testing;
}

enum dml_status dml_embedded_open(const struct dml_model *model, struct dml_params *params,
                                  const struct dml_strings *sources, enum dml_cli_part part,
                                  struct dml_embedded *out) {
    memset(out, 0, sizeof *out);
    enum dml_status status;
    const struct dml_dataset_options *data = dml_params_options(params, &dml_dataset_params);
    if (sources && sources->count) {
        status = dml_images_find(sources, &out->listed);
        out->listed.max_pixels = data->max_image_pixels;
        const struct dml_dataset alone = {.testing = out->listed};
        if (!status)
            status = dml_check_images(&alone);
        out->part = &out->listed;
    } else {
        const struct dml_training_options *run = dml_params_options(params, &dml_training_params);
        status = dml_dataset_open(data, (uint64_t)run->seed, &out->dataset);
        out->part = find_part(&out->dataset, part);
        if (!status && out->part->images == 0)
            status = dml_fail(DML_ERROR_INPUT, "--part %s: the data set %s has no such images%s",
                              dml_cli_parts[part], data->dataset,
                              part == DML_CLI_VALIDATION ? " without --use_tv_split" : "");
    }
    out->dim = dml_network_dim(model->network);
    if (status)
        dml_embedded_free(out);
    return status;
}

enum dml_status dml_embedded_compute(const struct dml_model *model, const struct dml_params *params,
                                     const volatile sig_atomic_t *stop,
                                     struct dml_embedded *embedded) {
    const struct dml_part *part = embedded->part;
    struct dml_comm *comm = model->comm;
    enum dml_status status = comm ? dml_ranks_check_images(comm, part) : DML_OK;
    if (!status && comm)
        status = dml_ranks_check_weights(comm, model->network);
    if (!status)
        status =
            dml_model_embed_part(model, part, params, "Embedding", stop, &embedded->embeddings);
    if (!status && comm)
        status = dml_ranks_share_told(comm, &part, 1);
    return status;
}

void dml_embedded_free(struct dml_embedded *embedded) {
    dml_images_free(&embedded->listed);
    dml_dataset_close(&embedded->dataset);
    free(embedded->embeddings);
    memset(embedded, 0, sizeof *embedded);
}
