#include "cli/cli.h"

#include "base/memory.h"
#include "base/number.h"
#include "base/progress.h"
#include "cli/embedded.h"
#include "metrics/files.h"
#include "train/options.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: dml eval --embeddings E.npy --labels y.npy [FLAGS]\n"
    "       dml eval --checkpoint FILE [--source_path FOLDER] [--dataset NAME] [FLAGS]\n"
    "\n"
    "Evaluates embeddings: those of .npy files (real numbers of any type and shape (n, dim), what\n"
    "float32 cannot hold in float64; integer labels of any width), or those that a checkpoint's "
    "network gives the images of a\n"
    "data set. Every sample is a query against all others. With a gallery of its own, queries\n"
    "look among the gallery alone; clusterings, dists@ and rho_spectrum@ then look at both.\n"
    "Distances are Euclidean, of metrics that begin with c_ cosine.\n"
    "\n"
    "  dml eval --embeddings photos_embeddings.npy --labels photos_labels.npy \\\n"
    "      --metrics e_recall@1 e_recall@10 mAP@R nmi\n";

struct eval_options {
    char *checkpoint, *part;
    char *embeddings, *labels, *gallery_embeddings, *gallery_labels, *groups, *gallery_groups;
    struct dml_strings metrics;
    bool json;
};

#define AT(field) offsetof(struct eval_options, field)
static const struct dml_param rows[] = {
    {"embeddings", DML_PARAM_STRING, AT(embeddings),
     .help = "A .npy file: embeddings to evaluate; queries, where there is a gallery."},
    {"labels", DML_PARAM_STRING, AT(labels), .help = "A .npy file: the class of each."},
    {"gallery_embeddings", DML_PARAM_STRING, AT(gallery_embeddings),
     .help = "A .npy file: what queries look among, if not among each other."},
    {"gallery_labels", DML_PARAM_STRING, AT(gallery_labels),
     .help = "A .npy file: the class of each in the gallery."},
    {"groups", DML_PARAM_STRING, AT(groups),
     .help = "A .npy file of integers: the group (camera, sequence) of each. Of its own group and "
             "class a query sees no gallery sample."},
    {"gallery_groups", DML_PARAM_STRING, AT(gallery_groups),
     .help = "A .npy file: the group of each in the gallery."},
    {"checkpoint", DML_PARAM_STRING, AT(checkpoint),
     .help = "Checkpoint of a run (checkpoint_*.safetensors in its folder); its data set and "
             "metrics are taken unless flags say otherwise."},
    {"part", DML_PARAM_STRING, AT(part), "testing", .choices = dml_cli_parts,
     .help = "Which images of the checkpoint's data set."},
    {"metrics", DML_PARAM_STRINGS, AT(metrics),
     .help = "What to compute; without it what the checkpoint's run evaluated, or the study's "
             "defaults. `dml list` shows all metrics."},
    {"json", DML_PARAM_FLAG, AT(json), .help = "Print one JSON object instead of a table."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Evaluation", struct eval_options, rows);

static enum dml_status check_options(const struct eval_options *o) {
    bool files = *o->embeddings || *o->labels || *o->gallery_embeddings || *o->gallery_labels ||
                 *o->groups || *o->gallery_groups;
    if (files && *o->checkpoint)
        return dml_fail(DML_ERROR_USAGE, "--checkpoint and .npy files exclude each other");
    if (!files && !*o->checkpoint)
        return dml_fail(DML_ERROR_USAGE, "needs --embeddings and --labels, or --checkpoint");
    if (files && (!*o->embeddings || !*o->labels))
        return dml_fail(DML_ERROR_USAGE, "--%s is missing",
                        *o->embeddings ? "labels" : "embeddings");
    if (!*o->gallery_embeddings != !*o->gallery_labels)
        return dml_fail(DML_ERROR_USAGE, "--gallery_%s is missing",
                        *o->gallery_embeddings ? "labels" : "embeddings");
    if (*o->gallery_embeddings && !*o->groups != !*o->gallery_groups)
        return dml_fail(DML_ERROR_USAGE, "--%sgroups is missing", *o->groups ? "gallery_" : "");
    if (!*o->gallery_embeddings && *o->gallery_groups)
        return dml_fail(DML_ERROR_USAGE, "--gallery_groups: goes with --gallery_embeddings");
    return DML_OK;
}

static void show_progress(void *data, double share, const char *what) {
    dml_progress_note(data, "%s", what);
    dml_progress_update(data, (size_t)(share * 100));
}

static void print_table(const struct dml_evaluation_set *set, const struct dml_metric_value *values,
                        size_t count) {
    printf("%zu embeddings of %zu dimensions\n\n", set->n, set->dim);
    for (size_t i = 0; i < count; i++) {
        const struct dml_metric_value *value = &values[i];
        if (isnan(value->value))
            printf("%-24s undefined\n", value->name);
        else if (value->vector_count)
            printf("%-24s %zu values from %.4g to %.4g\n", value->name, value->vector_count,
                   value->vector[0], value->vector[value->vector_count - 1]);
        else
            printf("%-24s %.6f\n", value->name, value->value);
    }
}

/* Names as keys; a spectrum is an array; what is undefined or infinite is null. */
static enum dml_status print_json(const struct dml_metric_value *values, size_t count) {
    cJSON *root = cJSON_CreateObject();
    bool ok = root;
    for (size_t i = 0; ok && i < count; i++) {
        const struct dml_metric_value *value = &values[i];
        cJSON *item = NULL;
        char text[DML_NUMBER_SIZE];
        if (value->vector_count)
            item = cJSON_CreateFloatArray(value->vector, (int)value->vector_count);
        else if (isfinite(value->value))
            item = cJSON_CreateRaw(dml_number_text(value->value, text));
        else
            item = cJSON_CreateNull();
        ok = item && cJSON_AddItemToObject(root, value->name, item);
    }
    char *text = ok ? cJSON_PrintUnformatted(root) : NULL;
    if (text)
        puts(text);
    free(text);
    cJSON_Delete(root);
    return text ? DML_OK : dml_fail(DML_ERROR_MEMORY, "out of memory");
}

/* Queries that every mean leaves out are told of. */
static void tell_lone(const struct dml_evaluation_set *set, const struct dml_query_counts *counts) {
    bool plain = !set->is_query && !set->is_gallery && !set->groups;
    if (!plain && counts->lone > 0)
        fprintf(stderr,
                "dml eval: %zu of %zu queries have no sample of their class to find and are left "
                "out; the first is number %zu\n",
                counts->lone, counts->queries, counts->first_lone);
}

static enum dml_status evaluate(const struct dml_evaluation_set *set,
                                const struct dml_strings *names, bool json) {
    struct dml_metric_value *values = dml_alloc(names->count, sizeof *values);
    if (!values)
        return DML_ERROR_MEMORY;
    struct dml_progress progress;
    dml_progress_start(&progress, "Metrics", "percent", 100);
    progress.quiet = !progress.terminal;
    struct dml_query_counts counts;
    const struct dml_evaluation_options options = {
        .progress = show_progress, .data = &progress, .counts = &counts};
    enum dml_status status =
        dml_evaluate(set, (const char *const *)names->items, names->count, &options, values);
    if (!status) {
        dml_progress_end(&progress);
        tell_lone(set, &counts);
        if (json)
            status = print_json(values, names->count);
        else
            print_table(set, values, names->count);
        dml_metric_values_free(values, names->count);
    }
    free(values);
    return status;
}

/* What --metrics names, or what the flags or the checkpoint's run evaluate with. */
static enum dml_status choose_metrics(const struct eval_options *o, struct dml_params *params,
                                      const struct dml_strings **names) {
    const struct dml_evaluation_flags *flags = dml_params_options(params, &dml_evaluation_params);
    *names = o->metrics.count ? &o->metrics : &flags->evaluation_metrics;
    return dml_metrics_check((const char *const *)(*names)->items, (*names)->count);
}

/* Of metrics that nobody named, those that the set is large enough for. Where not even the first
 * is, the set itself is at fault. */
static enum dml_status fit_defaults(const struct dml_evaluation_set *set,
                                    const struct dml_strings *names, struct dml_strings *fitting) {
    struct dml_evaluation_set bare = *set;
    bare.embeddings = NULL; /* once over their values is enough */
    enum dml_status first = DML_OK;
    bool all = !dml_metrics_check_set(&bare, (const char *const *)names->items, names->count);
    *fitting = (struct dml_strings){.items = dml_alloc(names->count, sizeof *fitting->items)};
    if (!fitting->items)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < names->count && !first; i++) {
        const char *const name = names->items[i];
        enum dml_status status = all ? DML_OK : dml_metrics_check_set(&bare, &name, 1);
        if (!status)
            fitting->items[fitting->count++] = names->items[i];
        else if (!fitting->count)
            first = status;
    }
    return first;
}

static void tell_left_out(const struct dml_strings *names, const struct dml_strings *fitting) {
    for (size_t i = 0, at = 0; i < names->count; i++)
        if (at < fitting->count && fitting->items[at] == names->items[i])
            at++;
        else
            fprintf(stderr, "dml eval: %s is left out: the set is too small for it\n",
                    names->items[i]);
}

static const char *given(const char *text) {
    return *text ? text : NULL;
}

static enum dml_status eval_files(const struct eval_options *o, const struct dml_strings *names) {
    const struct dml_embedding_files files = {
        .embeddings = o->embeddings,
        .labels = o->labels,
        .gallery_embeddings = given(o->gallery_embeddings),
        .gallery_labels = given(o->gallery_labels),
        .groups = given(o->groups),
        .gallery_groups = given(o->gallery_groups),
    };
    struct dml_embedding_set set;
    enum dml_status status = dml_embedding_set_open(&files, &set);
    struct dml_strings fitting = {0};
    if (!status) {
        if (!o->metrics.count)
            status = fit_defaults(&set.set, names, &fitting);
        if (!status)
            status = evaluate(&set.set, fitting.items ? &fitting : names, o->json);
        if (!status && fitting.items)
            tell_left_out(names, &fitting);
        if (status == DML_ERROR_INPUT)
            dml_fail_within(status, "%s", o->embeddings);
    }
    free(fitting.items);
    dml_embedding_set_close(&set);
    return status;
}

static enum dml_status eval_checkpoint(const struct eval_options *o, struct dml_params *params) {
    struct dml_model model = {0};
    struct dml_embedded embedded = {0};
    const struct dml_strings *names;
    enum dml_status status = dml_model_open(o->checkpoint, params, &model);
    if (!status)
        status = choose_metrics(o, params, &names);
    if (!status)
        status = dml_embedded_open(&model, params, NULL, o->part, &embedded);
    if (!status) {
        const struct dml_part *part = embedded.part;
        struct dml_evaluation_set set = {.n = part->images,
                                         .dim = embedded.dim,
                                         .labels = part->labels,
                                         .is_query = part->is_query,
                                         .is_gallery = part->is_gallery};
        /* What the set does not allow is told before it is embedded. */
        status = dml_metrics_check_set(&set, (const char *const *)names->items, names->count);
        if (!status)
            status = dml_embedded_compute(&model, params, &embedded);
        set.embeddings = embedded.embeddings;
        if (!status)
            status = evaluate(&set, names, o->json);
    }
    dml_embedded_free(&embedded);
    dml_model_close(&model);
    return status;
}

int dml_eval_main(int argc, char **argv) {
    struct dml_params *params;
    enum dml_status status = dml_cli_params(&table, usage, argc, argv, &params);
    if (!status && params) {
        const struct eval_options *o = dml_params_options(params, &table);
        const struct dml_strings *names;
        status = check_options(o);
        if (!status)
            status = choose_metrics(o, params, &names);
        if (!status && *o->checkpoint)
            status = eval_checkpoint(o, params);
        else if (!status)
            status = eval_files(o, names);
    }
    dml_params_free(params);
    return dml_cli_finish("eval", status);
}
