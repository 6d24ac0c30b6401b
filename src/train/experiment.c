#include "train/experiment.h"

#include "backends/cuda/classes.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "data/inventory.h"
#include "dml/dml.h"
#include "train/embedding.h"
#include "train/ranks.h"
#include "train/run_folder.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *dml_thousands(size_t value) {
    static _Thread_local char buffers[4][32];
    static _Thread_local int next;
    char *out = buffers[next++ % 4], digits[24];
    int length = snprintf(digits, sizeof digits, "%zu", value), used = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = 0;
    return out;
}

/* Checks names, which may become folders, and flags that may contradict each other. */
static enum dml_status check_setup(const struct dml_experiment *e) {
    const struct {
        const char *flag, *name, *instead;
    } names[] = {{"dataset", e->data->dataset, "source_path"},
                 {"savename", e->setup->savename, "save_path"},
                 {"group", e->tracking->group, "save_path"},
                 {"project", e->tracking->project, NULL}};
    const int count = strcmp(e->setup->savename, "group_plus_seed") == 0 ? 3 : 2;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (dml_text_has_controls(names[i].name))
            return dml_fail(DML_ERROR_USAGE, "--%s %s: has control characters", names[i].flag,
                            names[i].name);
    for (int i = 0; i < count; i++)
        if (strchr(names[i].name, '/') || strcmp(names[i].name, "..") == 0 ||
            strcmp(names[i].name, ".") == 0)
            return dml_fail(DML_ERROR_USAGE, "--%s %s: is not a name; a path goes into --%s",
                            names[i].flag, names[i].name, names[i].instead);
    if (e->network_flags->not_pretrained && *e->network_flags->weights)
        return dml_fail(DML_ERROR_USAGE, "--weights and --not_pretrained cannot be given together");
    return *e->data->dataset ? DML_OK : dml_fail(DML_ERROR_USAGE, "--dataset: an empty name");
}

static enum dml_status check_methods(struct dml_experiment *e) {
    const struct dml_training_options *t = e->training;
    enum dml_status status = dml_terms_read(e->params, t, &e->terms);
    if (!status && !dml_method_find(DML_SAMPLER, t->data_sampler))
        status = dml_method_unknown(DML_SAMPLER, t->data_sampler);
    if (!status && !dml_method_find(DML_OPTIMISER, t->optim))
        status = dml_method_unknown(DML_OPTIMISER, t->optim);
    if (!status)
        status = dml_schedule_check(e->params);
    if (!status)
        status = dml_metrics_check((const char *const *)e->evaluation->evaluation_metrics.items,
                                   e->evaluation->evaluation_metrics.count);
    if (!status)
        status = dml_metrics_check((const char *const *)e->evaluation->storage_metrics.items,
                                   e->evaluation->storage_metrics.count);
    if (!status && t->bs % t->samples_per_class != 0)
        status =
            dml_fail(DML_ERROR_USAGE, "--bs %lld is not a multiple of --samples_per_class %lld",
                     (long long)t->bs, (long long)t->samples_per_class);
    if (!status && e->network_flags->micro_bs > 0 && t->bs % e->network_flags->micro_bs != 0)
        status = dml_fail(DML_ERROR_USAGE, "--micro_bs %lld does not divide --bs %lld",
                          (long long)e->network_flags->micro_bs, (long long)t->bs);
    return status;
}

static void print_part(const struct dml_part *part) {
    if (part->images)
        dml_inform("  %-11s %s classes, %s images", part->name, dml_thousands(part->classes),
                   dml_thousands(part->images));
}

enum dml_status dml_experiment_loader(const struct dml_experiment *e, const struct dml_part *part,
                                      bool training, struct dml_loader **out) {
    size_t bs = (size_t)e->training->bs, own = bs / (size_t)e->comm->size;
    struct dml_loader_options options = {.part = part,
                                         .transform = training ? e->transforms.training
                                                               : e->transforms.evaluation,
                                         .batch_size = training ? own : dml_embedding_batch(bs),
                                         .threads = (int)e->training->kernels,
                                         .seed = (uint64_t)e->training->seed,
                                         .pixels = dml_network_image_memory(e->network),
                                         .cache = e->data->cache_images,
                                         .interrupted = e->stop};
    return dml_loader_open(&options, out);
}

static enum dml_status check_parts(const struct dml_dataset *dataset) {
    const struct dml_part *const needed[] = {&dataset->training, &dataset->testing};
    for (int i = 0; i < 2; i++)
        if (needed[i]->images == 0)
            return dml_fail(DML_ERROR_INPUT, "the data set has no images for %s", needed[i]->name);
    return DML_OK;
}

static enum dml_status open_data(struct dml_experiment *e) {
    enum dml_status status = dml_dataset_open(e->data, (uint64_t)e->training->seed, &e->dataset);
    if (status)
        return status;
    char *name = dml_text_line(*e->data->dataset_csv ? e->data->dataset_csv : e->data->dataset);
    if (!name)
        return DML_ERROR_MEMORY;
    dml_inform("data set: %s", name);
    free(name);
    print_part(&e->dataset.training);
    print_part(&e->dataset.validation);
    print_part(&e->dataset.testing);
    status = check_parts(&e->dataset);
    if (!status && e->dataset.training.classes == 1)
        dml_warn("training has one class: --loss %s has no other to tell it from and learns "
                 "nothing of use",
                 e->training->loss);
    if (!status)
        status = dml_inventory_make(&e->dataset, &e->inventory);
    if (status)
        return status;
    const struct dml_part *parts[DML_EVALUATE_PARTS] = {
        [DML_EVALUATE_TEST] = &e->dataset.testing,
        [DML_EVALUATE_VAL] = &e->dataset.validation,
        [DML_EVALUATE_TRAIN] = e->evaluation->no_train_metrics ? NULL : &e->dataset.training};
    status = dml_experiment_loader(e, &e->dataset.training, true, &e->train_loader);
    for (int i = 0; !status && i < DML_EVALUATE_PARTS; i++)
        if (parts[i] && parts[i]->images)
            status = dml_experiment_loader(e, parts[i], false, &e->eval_loaders[i]);
    return status;
}

/* A metric that a part does not allow is reported now, not after an epoch of training. */
static enum dml_status check_evaluation(const struct dml_experiment *e) {
    const struct dml_part *const parts[DML_EVALUATE_PARTS] = {
        &e->dataset.testing, &e->dataset.validation, &e->dataset.training};
    const struct dml_strings *const names[] = {&e->evaluation->evaluation_metrics,
                                               &e->evaluation->storage_metrics};
    for (int i = 0; i < DML_EVALUATE_PARTS; i++)
        for (int n = 0; n < 2 && e->eval_loaders[i]; n++) {
            const struct dml_evaluation_set set = {.n = parts[i]->images,
                                                   .dim = dml_network_dim(e->network),
                                                   .labels = parts[i]->labels,
                                                   .groups = parts[i]->sequences,
                                                   .is_query = parts[i]->is_query,
                                                   .is_gallery = parts[i]->is_gallery};
            enum dml_status status =
                dml_metrics_check_set(&set, (const char *const *)names[n]->items, names[n]->count);
            if (status)
                return dml_fail_within(status,
                                       n ? "--storage_metrics, %s" : "--evaluation_metrics, %s",
                                       parts[i]->name);
        }
    return DML_OK;
}

static size_t parameter_count(const struct dml_graph *graph) {
    size_t count = 0;
    for (int i = 0; i < graph->param_count; i++)
        if (dml_param_learnable(&graph->params[i]))
            count += graph->params[i].count;
    return count;
}

/* ImageNet weights for everything but the head. */
static enum dml_status load_backbone(struct dml_experiment *e) {
    struct dml_tensors tensors;
    enum dml_status status = dml_tensors_read(e->weights, &tensors);
    if (status)
        return status;
    status = dml_network_load(e->network, &tensors, e->weights, false);
    dml_tensors_free(&tensors);
    return status;
}

static enum dml_status open_graph(struct dml_experiment *e, const struct dml_backbone *backbone,
                                  struct dml_graph **out) {
    const struct dml_network_flags *flags = e->network_flags;
    enum dml_status status = dml_transforms_open(e->data, backbone->crop, &e->transforms);
    if (!status)
        status = dml_network_graph(flags, (int)flags->embed_dim, e->transforms.training.crop, out);
    return status;
}

/* Whether batch norm makes an image's embedding depend on the others of its batch. */
static bool ties_images(const struct dml_graph *graph) {
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i].op == DML_OP_BATCH_NORM && !graph->frozen)
            return true;
    return false;
}

/* Options of the network. A rank computes as a single process does that computes a batch in pieces
 * of that size. */
static struct dml_network_options network_options(struct dml_experiment *e,
                                                  const struct dml_graph *graph, int device) {
    const struct dml_network_flags *flags = e->network_flags;
    size_t part = (size_t)(e->training->bs / e->comm->size), micro = (size_t)flags->micro_bs;
    const struct dml_optimiser *optimiser =
        (const struct dml_optimiser *)dml_method_find(DML_OPTIMISER, e->training->optim);
    bool several = e->comm->size > 1, tied = ties_images(graph);
    e->parts = dml_ranks_parts(e->comm);
    return (struct dml_network_options){.precision = flags->precision,
                                        .micro_batch = several && !micro && !tied ? part : micro,
                                        .batch_hint = part,
                                        .recompute = flags->recompute,
                                        .device = device,
                                        .states = optimiser->states,
                                        .parts = several ? &e->parts : NULL,
                                        .own_statistics = flags->no_sync_bn};
}

/* Several ranks use GPUs only when they are told which: the others of a machine may not have one of
 * their own. */
static enum dml_status choose_backend(const struct dml_experiment *e,
                                      const struct dml_backend_wishes *wishes,
                                      const struct dml_backend **out, const char **note) {
    if (e->comm->size == 1 || wishes->gpu)
        return dml_backend_select(wishes, out, note);
    *out = &dml_backend_cpu;
    *note = NULL;
    return DML_OK;
}

/* What a network will be made of. */
struct network_plan {
    struct dml_graph *graph;
    const struct dml_backend *backend;
    const char *note; /* of dml_backend_select */
    struct dml_network_options options;
};

/* Everything that flags say about the network, checked before data are read; allocates no network.
 * Caller frees the graph. */
static enum dml_status plan_network(struct dml_experiment *e, const struct dml_backbone *backbone,
                                    struct network_plan *out) {
    struct dml_backend_wishes wishes = {0};
    *out = (struct network_plan){.graph = NULL};
    enum dml_status status = open_graph(e, backbone, &out->graph);
    if (!status)
        status = dml_backend_wishes(e->params, e->comm, &wishes);
    if (!status)
        status = choose_backend(e, &wishes, &out->backend, &out->note);
    if (!status)
        out->options = network_options(e, out->graph, wishes.device);
    return status ? status : out->backend->check(out->graph, &out->options);
}

/* Opens the network, without values. */
static enum dml_status open_network(struct dml_experiment *e, const struct dml_backbone *backbone) {
    struct network_plan plan;
    enum dml_status status = plan_network(e, backbone, &plan);
    if (!status)
        status = dml_network_open(plan.backend, plan.graph, &plan.options, &e->network);
    if (status)
        dml_graph_free(plan.graph);
    else if (plan.note)
        dml_inform("no GPU: %s", plan.note);
    return status;
}

static enum dml_status fill_network(struct dml_experiment *e) {
    enum dml_status status = dml_network_initialise(e->network, (uint64_t)e->training->seed);
    if (!status && e->weights)
        status = load_backbone(e);
    if (status)
        return status;
    char device[256];
    dml_network_describe(e->network, device, sizeof device);
    dml_inform("network: %s, %s parameters, %s; %s", e->network_flags->arch,
               dml_thousands(parameter_count(e->network->graph)),
               e->weights ? e->weights : "random weights", device);
    return DML_OK;
}

static enum dml_status open_methods(struct dml_experiment *e) {
    const struct dml_training_options *t = e->training;
    const struct dml_sampler *sampler =
        (const struct dml_sampler *)dml_method_find(DML_SAMPLER, t->data_sampler);
    const struct dml_sampler_context sampling = {
        .images = e->dataset.training.images,
        .classes = e->dataset.training.classes,
        .labels = e->dataset.training.labels,
        .batch_size = (size_t)t->bs,
        .samples_per_class = (size_t)t->samples_per_class,
        .dim = dml_network_dim(e->network),
        .seed = (uint64_t)t->seed,
        .shared = dml_params_options(e->params, &dml_sampling_params)};
    enum dml_status status = dml_sampling_create(
        sampler, dml_params_options(e->params, sampler->method.params), &sampling, &e->sampling);
    struct dml_criterion_context context = {.dim = dml_network_dim(e->network),
                                            .classes = e->dataset.training.classes,
                                            .lr = t->lr,
                                            .seed = (uint64_t)t->seed,
                                            .arch = e->network_flags->arch};
    struct cuda_banks banks;
    /* Ranks compute the same loss, to the bit, which cards that differ would not. */
    if (!status && e->network->backend == &dml_backend_cuda && e->comm->size == 1) {
        const struct dml_optimiser *optimiser =
            (const struct dml_optimiser *)dml_method_find(DML_OPTIMISER, t->optim);
        cuda_banks_make((int)e->setup->gpu.items[0], (size_t)e->network_flags->gpu_classes,
                        optimiser->states, &banks);
        context.banks = &banks.banks;
    }
    if (!status)
        status = dml_terms_open(&e->terms, e->params, t, &context);
    char criteria[500] = "", miners[500] = "";
    dml_terms_describe(&e->terms, criteria, miners, sizeof miners);
    if (!status)
        dml_inform("criterion: %s; batch miner: %s; batch sampler: %s, %s batches of %lld an epoch",
                   criteria, miners, t->data_sampler,
                   dml_thousands(dml_sampling_batches(e->sampling)), (long long)t->bs);
    return status;
}

static struct dml_experiment experiment_of(struct dml_params *params) {
    return (struct dml_experiment){
        .params = params,
        .data = dml_params_options(params, &dml_dataset_params),
        .training = dml_params_options(params, &dml_training_params),
        .group_flags = dml_params_options(params, &dml_group_params),
        .network_flags = dml_params_options(params, &dml_network_params),
        .evaluation = dml_params_options(params, &dml_evaluation_params),
        .setup = dml_params_options(params, &dml_setup_params),
        .tracking = dml_params_options(params, &dml_tracking_params),
    };
}

static enum dml_status check_names(struct dml_experiment *e, const struct dml_backbone *backbone) {
    enum dml_status status = check_setup(e);
    if (!status)
        status = check_methods(e);
    if (!status && !backbone) { /* builds nothing: its message lists what there is */
        struct dml_graph *none;
        status = dml_graph_build(e->network_flags->arch, 1, 0, &none);
    }
    return status;
}

enum dml_status dml_train_check(struct dml_params *params) {
    struct dml_experiment e = experiment_of(params);
    struct dml_comm alone;
    dml_comm_single(&alone);
    e.comm = &alone;
    const struct dml_backbone *backbone = dml_backbone_find(e.network_flags->arch);
    enum dml_status status = check_names(&e, backbone);
    struct network_plan plan = {.graph = NULL};
    if (!status)
        status = plan_network(&e, backbone, &plan);
    dml_graph_free(plan.graph);
    dml_experiment_close(&e);
    return status;
}

enum dml_status dml_experiment_open(struct dml_params *params, const volatile sig_atomic_t *stop,
                                    struct dml_comm *comm, struct dml_experiment *out) {
    *out = experiment_of(params);
    out->stop = stop;
    out->comm = comm;
    const struct dml_backbone *backbone = dml_backbone_find(out->network_flags->arch);
    enum dml_status status = check_names(out, backbone);
    bool own_weights = out->network_flags->not_pretrained ||
                       dml_resume_has_state(out->setup->resume) || out->group_flags->list_groups;
    if (!status && !own_weights)
        status = dml_weights_find(backbone, out->network_flags->weights, &out->weights);
    if (!status)
        status = open_network(out, backbone);
    if (!status)
        status = open_data(out);
    if (!status)
        status = check_evaluation(out);
    if (!status)
        status = fill_network(out);
    if (!status)
        status = open_methods(out);
    if (!status)
        status = dml_learner_open(params, out->network, out->terms.objective,
                                  dml_sampling_batches(out->sampling), &out->learner);
    if (status)
        dml_experiment_close(out);
    return status;
}

void dml_experiment_close(struct dml_experiment *e) {
    dml_loader_close(e->train_loader);
    for (int i = 0; i < DML_EVALUATE_PARTS; i++)
        dml_loader_close(e->eval_loaders[i]);
    dml_transforms_close(&e->transforms);
    dml_learner_close(&e->learner);
    dml_terms_close(&e->terms);
    dml_sampling_free(e->sampling);
    dml_network_close(e->network);
    dml_dataset_close(&e->dataset);
    free(e->inventory);
    free(e->weights);
    memset(e, 0, sizeof *e);
}

/* The processor's name as the system reports it; a constant text where it does not. */
static const char *processor_name(void) {
    static _Thread_local char name[96];
    char text[2048];
    dml_read_start("/proc/cpuinfo", text, sizeof text);
    const char *line = strstr(text, "model name");
    if (!line || sscanf(line, "model name : %95[^\n]", name) != 1)
        snprintf(name, sizeof name, "unknown");
    return name;
}

void dml_experiment_describe(const struct dml_experiment *e, const struct dml_run_folder *folder,
                             const char *command, struct dml_run *out) {
    *out = (struct dml_run){.folder = folder->path,
                            .save_path = folder->save_path,
                            .dataset = e->data->dataset,
                            .savename = folder->name,
                            .identity = folder->identity,
                            .resumed = folder->in_place,
                            .project = e->tracking->project,
                            .group = e->tracking->group,
                            .seed = (uint64_t)e->training->seed,
                            .params = e->params,
                            .command = command,
                            .version = dml_version(),
                            .processor = processor_name(),
                            .threads = omp_get_max_threads(),
                            .steps_per_epoch = dml_sampling_batches(e->sampling),
                            .epochs = (size_t)e->training->n_epochs,
                            .parameters = parameter_count(e->network->graph)};
    out->training.classes = e->dataset.training.classes;
    out->training.images = e->dataset.training.images;
    out->testing.classes = e->dataset.testing.classes;
    out->testing.images = e->dataset.testing.images;
    out->validation.classes = e->dataset.validation.classes;
    out->validation.images = e->dataset.validation.images;
}
