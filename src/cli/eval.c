#include "cli/cli.h"

#include "backends/cuda/ranks.h"
#include "base/memory.h"
#include "base/number.h"
#include "base/progress.h"
#include "cli/embedded.h"
#include "cli/per_query.h"
#include "cli/ranks.h"
#include "math/values.h"
#include "metrics/files.h"
#include "postprocess/postprocess.h"
#include "train/options.h"
#include "train/ranks.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: dml eval --embeddings E.npy --labels y.npy [FLAGS]\n"
    "       dml eval --checkpoint FILE [--source_path FOLDER] [--dataset NAME] [FLAGS]\n"
    "       dml eval --arch NAME [--weights FILE] [--source_path FOLDER] [--dataset NAME] [FLAGS]\n"
    "\n"
    "Evaluates embeddings: those in .npy files (real numbers of any type and shape (n, dim), as\n"
    "float64 where float32 cannot hold them; integer labels of any width), or those that a\n"
    "checkpoint's network or a pretrained backbone gives the images of a data set. Every sample\n"
    "is a query against all others. With a separate gallery, queries search the gallery alone;\n"
    "clusterings, dists@ and rho_spectrum@ then look at both. Distances are Euclidean, or cosine\n"
    "for metrics that begin with c_. Embeddings may be whitened and re-ranked, queries expanded.\n"
    "With --evaluate_on_gpu a GPU counts ranks. Several processes (--ranks, mpirun, srun) share\n"
    "the images to be embedded.\n"
    "\n"
    "  dml eval --embeddings photos_embeddings.npy --labels photos_labels.npy \\\n"
    "      --metrics e_recall@1 e_recall@10 mAP@R nmi\n";

struct eval_options {
    char *checkpoint;
    enum dml_cli_part part;
    char *embeddings, *labels, *gallery_embeddings, *gallery_labels, *groups, *gallery_groups;
    struct dml_strings metrics;
    char *per_query, *whiten_from;
    enum dml_interval ci;
    double ci_level;
    int64_t ci_resamples, queries;
    bool json;
};

static const char *const intervals[] = {[DML_INTERVAL_NONE] = "none",
                                        [DML_INTERVAL_QUERIES] = "queries",
                                        [DML_INTERVAL_CLASSES] = "classes",
                                        NULL};

#define AT(field) offsetof(struct eval_options, field)
static const struct dml_param rows[] = {
    {"embeddings", DML_PARAM_STRING, AT(embeddings),
     .help = "A .npy file: embeddings to evaluate; queries, where there is a gallery."},
    {"labels", DML_PARAM_STRING, AT(labels), .help = "A .npy file: the class of each."},
    {"gallery_embeddings", DML_PARAM_STRING, AT(gallery_embeddings),
     .help = "A .npy file: the embeddings that queries search, if not each other."},
    {"gallery_labels", DML_PARAM_STRING, AT(gallery_labels),
     .help = "A .npy file: the class of each in the gallery."},
    {"groups", DML_PARAM_STRING, AT(groups),
     .help = "A .npy file of integers: the group (camera, sequence) of each. A query does not see "
             "gallery samples of its own group and class."},
    {"gallery_groups", DML_PARAM_STRING, AT(gallery_groups),
     .help = "A .npy file: the group of each in the gallery."},
    {"checkpoint", DML_PARAM_STRING, AT(checkpoint),
     .help = "Checkpoint of a run (checkpoint_*.safetensors in its folder); its data set and "
             "metrics are used unless flags say otherwise."},
    {"part", DML_PARAM_CHOICE, AT(part), "testing", .choices = dml_cli_parts,
     .help = "Which images of the checkpoint's data set."},
    {"metrics", DML_PARAM_STRINGS, AT(metrics),
     .help = "What to compute; by default what the checkpoint's run evaluated, or the study's "
             "metrics. `dml list` shows all metrics."},
    {"ci", DML_PARAM_CHOICE, AT(ci), "none", .choices = intervals,
     .help = "Bootstrap intervals: queries, or classes with all their queries, are resampled. "
             "Metrics that are means over queries have them, and so does fnmr@f, whose threshold "
             "is held fixed; clusterings (nmi, f1, ami), dists@, rho_spectrum@ and pcf@ look at "
             "all samples at once and have none."},
    {"ci_level", DML_PARAM_FLOAT, AT(ci_level), "0.95", 0.01, 0.9999,
     .help = "How often such an interval contains the value."},
    {"ci_resamples", DML_PARAM_INT, AT(ci_resamples), "1000", 10, 1000000,
     .help = "Resamples drawn for an interval."},
    {"queries", DML_PARAM_INT, AT(queries), "0", 0, 2147483647,
     .help =
         "Evaluate a random sample of this many queries, each against the whole gallery; estimates "
         "have an interval for the sampling error. 0: all. --seed draws another sample."},
    {"per_query", DML_PARAM_STRING, AT(per_query),
     .help = "Also write FILE.csv or FILE.npy with a row for each query: rank of the first hit, "
             "average precision (over all ranks, and at R) and R-precision."},
    {"whiten_from", DML_PARAM_STRING, AT(whiten_from),
     .help = "A .npy file: embeddings that --whiten is fitted to instead of the gallery."},
    {"json", DML_PARAM_FLAG, AT(json), .help = "Print one JSON object instead of a table."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Evaluation", struct eval_options, rows);

/* Flags about images would do nothing where embeddings come from files. */
static enum dml_status check_image_flags(const struct dml_params *params) {
    static const char *const names[] = {"part",
                                        "dataset",
                                        "source_path",
                                        "dataset_csv",
                                        "test_list",
                                        "use_tv_split",
                                        "image_size",
                                        "tv_split_perc",
                                        "tv_split_by_samples",
                                        "eval_transforms",
                                        "augmentation",
                                        "max_image_pixels",
                                        "embed_dim",
                                        "pool",
                                        "precision"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (dml_params_given(params, names[i]))
            return dml_fail(DML_ERROR_USAGE, "--%s: is about images, and --embeddings has none",
                            names[i]);
    return DML_OK;
}

static enum dml_status check_options(const struct eval_options *o, const struct dml_params *params,
                                     bool whiten) {
    bool network =
        *o->checkpoint || dml_params_given(params, "arch") || dml_params_given(params, "weights");
    bool files = *o->embeddings || *o->labels || *o->gallery_embeddings || *o->gallery_labels ||
                 *o->groups || *o->gallery_groups;
    if (files && network)
        return dml_fail(DML_ERROR_USAGE, "--%s and .npy files cannot be given together",
                        *o->checkpoint ? "checkpoint" : "arch");
    if (!files && !network)
        return dml_fail(DML_ERROR_USAGE,
                        "needs --embeddings and --labels, or --checkpoint, or --arch");
    if (files && (!*o->embeddings || !*o->labels))
        return dml_fail(DML_ERROR_USAGE, "--%s is missing",
                        *o->embeddings ? "labels" : "embeddings");
    if (!*o->gallery_embeddings != !*o->gallery_labels)
        return dml_fail(DML_ERROR_USAGE, "--gallery_%s is missing",
                        *o->gallery_embeddings ? "labels" : "embeddings");
    if (*o->gallery_embeddings && !*o->groups != !*o->gallery_groups)
        return dml_fail(DML_ERROR_USAGE, "--%sgroups is missing", *o->groups ? "gallery_" : "");
    if (!*o->gallery_embeddings && *o->gallery_groups)
        return dml_fail(DML_ERROR_USAGE, "--gallery_groups: needs --gallery_embeddings");
    if (*o->whiten_from && !whiten)
        return dml_fail(DML_ERROR_USAGE, "--whiten_from: needs --whiten");
    if (o->ci == DML_INTERVAL_NONE && o->queries == 0 &&
        (dml_params_given(params, "ci_level") || dml_params_given(params, "ci_resamples")))
        return dml_fail(DML_ERROR_USAGE, "--%s: needs --ci or --queries",
                        dml_params_given(params, "ci_level") ? "ci_level" : "ci_resamples");
    enum dml_status status = files ? check_image_flags(params) : DML_OK;
    if (!status)
        status = dml_postprocess_flags_check(params);
    return !status && *o->per_query ? dml_per_query_check(o->per_query) : status;
}

static void show_progress(void *data, double share, const char *what) {
    dml_progress_note(data, "%s", what);
    dml_progress_update(data, (size_t)(share * 100));
}

static void print_table(const struct dml_evaluation_set *set, const struct dml_query_counts *counts,
                        const struct dml_metric_value *values, size_t count) {
    printf("%zu embeddings of %zu dimensions", set->n, set->dim);
    if (counts->queries < counts->population)
        printf(", %zu of %zu queries drawn", counts->queries, counts->population);
    printf("\n\n");
    for (size_t i = 0; i < count; i++) {
        const struct dml_metric_value *value = &values[i];
        if (isnan(value->value))
            printf("%-24s undefined\n", value->name);
        else if (value->vector_count)
            printf("%-24s %zu values from %.4g to %.4g\n", value->name, value->vector_count,
                   value->vector[0], value->vector[value->vector_count - 1]);
        else if (!isnan(value->low))
            printf("%-24s %.6f  (%.6f to %.6f)\n", value->name, value->value, value->low,
                   value->high);
        else
            printf("%-24s %.6f\n", value->name, value->value);
    }
}

/* Adds a key "intervals" with those that exist. */
static bool add_intervals(cJSON *root, const struct dml_metric_value *values, size_t count) {
    cJSON *all = NULL;
    for (size_t i = 0; i < count; i++) {
        char low[DML_NUMBER_SIZE], high[DML_NUMBER_SIZE];
        if (isnan(values[i].low))
            continue;
        if (!all && !(all = cJSON_AddObjectToObject(root, "intervals")))
            return false;
        cJSON *pair = cJSON_AddArrayToObject(all, values[i].name);
        if (!cJSON_AddItemToArray(pair, cJSON_CreateRaw(dml_number_text(values[i].low, low))) ||
            !cJSON_AddItemToArray(pair, cJSON_CreateRaw(dml_number_text(values[i].high, high))))
            return false;
    }
    return true;
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
    ok = ok && add_intervals(root, values, count);
    char *text = ok ? cJSON_PrintUnformatted(root) : NULL;
    if (text)
        puts(text);
    free(text);
    cJSON_Delete(root);
    return text ? DML_OK : dml_fail(DML_ERROR_MEMORY, "out of memory");
}

/* Says which queries every mean leaves out. */
static void tell_lone(const struct dml_evaluation_set *set, const struct dml_query_counts *counts) {
    bool plain = !set->is_query && !set->is_gallery && !set->groups;
    if (!plain && counts->lone > 0)
        fprintf(stderr,
                "dml eval: %zu of %zu queries have no sample of their class to find and are left "
                "out; the first is number %zu\n",
                counts->lone, counts->queries, counts->first_lone);
}

/* Names the metrics that have no interval although one is asked for. */
static void tell_without_interval(const struct dml_metric_value *values, size_t count) {
    bool any = false;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i].value) && isnan(values[i].low)) {
            fprintf(stderr, "%s%s", any ? ", " : "dml eval: --ci: no interval for ",
                    values[i].name);
            any = true;
        }
    if (any)
        fputs(": computed from all samples at once, not a mean over queries\n", stderr);
}

/* Prints the values of `names` and writes the table of queries. */
static enum dml_status measure(const struct dml_evaluation_set *set,
                               const struct dml_strings *names, const struct eval_options *o,
                               const struct dml_params *params,
                               const struct dml_query_names *queries) {
    const struct dml_training_options *run = dml_params_options(params, &dml_training_params);
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    const struct dml_evaluation_flags *flags = dml_params_options(params, &dml_evaluation_params);
    struct dml_metric_value *values = dml_alloc(names->count, sizeof *values);
    if (!values)
        return DML_ERROR_MEMORY;
    struct cuda_ranker *ranker =
        flags->evaluate_on_gpu ? cuda_ranker_open((int)setup->gpu.items[0]) : NULL;
    struct dml_progress progress;
    dml_progress_start(&progress, "Metrics", "percent", 100);
    progress.brief = true;
    struct dml_query_counts counts;
    struct dml_per_query per_query = {0};
    const struct dml_evaluation_options options = {
        .progress = show_progress,
        .data = &progress,
        .sample = (size_t)o->queries,
        .interval = o->ci,
        .level = o->ci_level,
        .resamples = (size_t)o->ci_resamples,
        .seed = (uint64_t)run->seed,
        .counter = cuda_ranker_counter(ranker),
        .per_query = *o->per_query ? &per_query : NULL,
        .counts = &counts,
    };
    enum dml_status status =
        dml_evaluate(set, (const char *const *)names->items, names->count, &options, values);
    if (!status) {
        dml_progress_end(&progress);
        tell_lone(set, &counts);
        if (o->ci != DML_INTERVAL_NONE)
            tell_without_interval(values, names->count);
        if (*o->per_query)
            status = dml_per_query_write(o->per_query, &per_query, set->labels, queries);
        if (!status && o->json)
            status = print_json(values, names->count);
        else if (!status)
            print_table(set, &counts, values, names->count);
        dml_metric_values_free(values, names->count);
    }
    dml_per_query_free(&per_query);
    cuda_ranker_close(ranker);
    free(values);
    return status;
}

static const char *given(const char *text) {
    return *text ? text : NULL;
}

/* The embeddings that whitening is fitted to, in float64. */
static enum dml_status read_fit(const char *path, size_t dim, struct dml_embedding_set *set,
                                double **out) {
    const struct dml_embedding_files files = {.embeddings = path};
    enum dml_status status = dml_embedding_set_open(&files, set);
    if (!status && set->set.dim != dim)
        status = dml_fail(DML_ERROR_INPUT, "%s: has embeddings of %zu dimensions, the others %zu",
                          path, set->set.dim, dim);
    size_t count = status ? 0 : set->set.n * dim;
    const struct dml_values values = {set->set.embeddings, set->set.exact};
    if (!status && !(*out = dml_alloc_aligned(count, sizeof **out)))
        status = DML_ERROR_MEMORY;
    for (size_t i = 0; !status && i < count; i++)
        if (!isfinite((*out)[i] = dml_value(&values, i)))
            status = dml_fail(DML_ERROR_INPUT, "%s: row %zu holds NaN or an infinite value", path,
                              i / dim);
    return status;
}

/* Post-processing, where it is asked for, and metrics. */
static enum dml_status evaluate(const struct dml_evaluation_set *set,
                                const struct dml_strings *names, const struct eval_options *o,
                                const struct dml_params *params,
                                const struct dml_query_names *queries) {
    const struct dml_postprocess_options *post =
        dml_params_options(params, &dml_postprocess_params);
    if (!dml_postprocess_any(post))
        return measure(set, names, o, params, queries);
    struct dml_embedding_set fit = {0};
    double *fitted = NULL;
    bool euclidean = *o->per_query, cosine = false;
    for (size_t i = 0; i < names->count; i++) {
        bool c = strncmp(names->items[i], "c_", 2) == 0;
        cosine |= c;
        euclidean |= !c;
    }
    enum dml_status status = DML_OK;
    if (*o->whiten_from)
        status = read_fit(o->whiten_from, set->dim, &fit, &fitted);
    struct dml_processed processed = {0};
    if (!status)
        status = dml_postprocess_apply(post, set, fitted, fit.set.n, euclidean, cosine, &processed);
    if (!status)
        status = measure(&processed.set, names, o, params, queries);
    dml_processed_free(&processed);
    dml_embedding_set_close(&fit);
    free(fitted);
    return status;
}

/* What --metrics names, or what the flags or the checkpoint's run evaluate with. */
static enum dml_status choose_metrics(const struct eval_options *o, struct dml_params *params,
                                      const struct dml_strings **names) {
    const struct dml_evaluation_flags *flags = dml_params_options(params, &dml_evaluation_params);
    *names = o->metrics.count ? &o->metrics : &flags->evaluation_metrics;
    return dml_metrics_check((const char *const *)(*names)->items, (*names)->count);
}

/* Where no metrics were named, keeps those that the set is large enough for. If it is too small
 * even for the first, the set itself is at fault. */
static enum dml_status fit_defaults(const struct dml_evaluation_set *set,
                                    const struct dml_strings *names, struct dml_strings *fitting) {
    struct dml_evaluation_set bare = *set;
    bare.embeddings = NULL; /* one pass over their values is enough */
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

static enum dml_status eval_files(const struct eval_options *o, const struct dml_params *params,
                                  const struct dml_strings *names) {
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
            status = evaluate(&set.set, fitting.items ? &fitting : names, o, params,
                              &(struct dml_query_names){.own_labels = set.own_labels});
        if (!status && fitting.items)
            tell_left_out(names, &fitting);
        if (status == DML_ERROR_INPUT)
            dml_fail_within(status, "%s", o->embeddings);
    }
    free(fitting.items);
    dml_embedding_set_close(&set);
    return status;
}

/* Ranks embed together, and rank 0 does the rest. */
static enum dml_status eval_network(const struct eval_options *o, struct dml_params *params,
                                    struct dml_comm *comm, const volatile sig_atomic_t *stop) {
    struct dml_model model = {0};
    struct dml_embedded embedded = {0};
    const struct dml_strings *names;
    enum dml_status status = dml_cli_open_model(o->checkpoint, params, comm, &model);
    if (!status)
        status = choose_metrics(o, params, &names);
    if (!status)
        status = dml_embedded_open(&model, params, NULL, o->part, &embedded);
    if (!status) {
        const struct dml_part *part = embedded.part;
        struct dml_evaluation_set set = {.n = part->images,
                                         .dim = embedded.dim,
                                         .labels = part->labels,
                                         .groups = part->sequences,
                                         .is_query = part->is_query,
                                         .is_gallery = part->is_gallery};
        /* Metrics that the set does not allow are reported before it is embedded. */
        status = dml_metrics_check_set(&set, (const char *const *)names->items, names->count);
        if (!status)
            status =
                dml_postprocess_check(dml_params_options(params, &dml_postprocess_params), &set);
        if (!status)
            status = dml_embedded_compute(&model, params, stop, &embedded);
        set.embeddings = embedded.embeddings;
        if (!status)
            status = dml_comm_alone_begin(comm);
        if (!status && comm->rank == 0)
            status =
                evaluate(&set, names, o, params, &(struct dml_query_names){.paths = part->paths});
        status = dml_comm_alone_end(comm, status);
    }
    dml_embedded_free(&embedded);
    dml_model_close(&model);
    return status;
}

static enum dml_status eval(void *data, struct dml_comm *comm, const volatile sig_atomic_t *stop) {
    struct dml_params *params = data;
    const struct eval_options *o = dml_params_options(params, &table);
    const struct dml_strings *names;
    enum dml_status status = dml_ranks_agree(comm, params);
    if (!status && !*o->embeddings)
        return eval_network(o, params, comm, stop);
    if (!status)
        status = choose_metrics(o, params, &names);
    if (!status)
        status = dml_comm_alone_begin(comm);
    if (!status && comm->rank == 0)
        status = eval_files(o, params, names);
    return dml_comm_alone_end(comm, status);
}

int dml_eval_main(int argc, char **argv) {
    struct dml_params *params;
    enum dml_status status =
        dml_cli_params(&table, &dml_postprocess_params, usage, argc, argv, &params);
    if (!status && !params)
        return 0;
    if (!status) {
        const struct dml_postprocess_options *post =
            dml_params_options(params, &dml_postprocess_params);
        const struct eval_options *o = dml_params_options(params, &table);
        const struct dml_strings *names;
        status = check_options(o, params, post->whiten > 0);
        if (!status)
            status = choose_metrics(o, params, &names);
    }
    int code = dml_cli_run_ranks("eval", status, params, argv, eval, params, NULL);
    dml_params_free(params);
    return code;
}
