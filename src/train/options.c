#include "train/options.h"

#include "base/memory.h"
#include "data/dataset.h"
#include "dml/method.h"
#include "dml/samplers.h"
#include "metrics/defaults.h"
#include "tracking/tracking.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof(rows)[0])

#define AT(field) offsetof(struct dml_training_options, field)
static const struct dml_param training[] = {
    {"loss", DML_PARAM_STRING, AT(loss), "margin",
     .help = "Criterion, or several to be added: margin+tcm; `dml list` shows them."},
    {"loss_weights", DML_PARAM_FLOATS, AT(loss_weights), NULL, 0, INFINITY,
     .help = "What each criterion of a sum is multiplied by; 1 by default."},
    {"batch_mining", DML_PARAM_STRING, AT(batch_mining), "distance",
     .help = "Batch miner, for criteria that learn from tuples; several for a sum of criteria: "
             "distance+npair, where each criterion takes the first that it works with."},
    {"xbm_size", DML_PARAM_INT, AT(xbm_size), "0", 0, 1 << 30,
     .help = "Embeddings in a cross-batch memory (Wang et al. 2020), which criteria that can do so "
             "compare a batch with; 0: none."},
    {"data_sampler", DML_PARAM_STRING, AT(data_sampler), "class_random", .help = "Batch sampler."},
    {"bs", DML_PARAM_INT, AT(bs), "112", 2, 1 << 20, .help = "Images in a batch.",
     .facts = DML_PARAM_INFERENCE},
    {"samples_per_class", DML_PARAM_INT, AT(samples_per_class), "2", 1, 1 << 20,
     .help = "Images of a class in a batch; above 1 for criteria that learn from tuples."},
    {"n_epochs", DML_PARAM_INT, AT(n_epochs), "150", 0, 1000000,
     .help = "Epochs; 0 only evaluates the network as it starts.", .facts = DML_PARAM_MAY_CHANGE},
    {"lr", DML_PARAM_FLOAT, AT(lr), "0.00001", 0, INFINITY, .help = "Learning rate of the network.",
     .facts = DML_PARAM_MAY_CHANGE},
    {"fc_lr", DML_PARAM_FLOAT, AT(fc_lr), "-1", -1, INFINITY,
     .help = "Learning rate of the last linear layer; -1: the network's.",
     .facts = DML_PARAM_MAY_CHANGE},
    {"decay", DML_PARAM_FLOAT, AT(decay), "0.0004", 0, INFINITY,
     .help = "Weight decay (L2) of the network.", .facts = DML_PARAM_MAY_CHANGE},
    {"optim", DML_PARAM_STRING, AT(optim), "adam", .help = "Optimiser; `dml list` shows them."},
    {"scheduler", DML_PARAM_STRING, AT(scheduler), "step",
     .help = "Learning-rate schedule; `dml list` shows them.", .facts = DML_PARAM_MAY_CHANGE},
    {"seed", DML_PARAM_INT, AT(seed), "1", 0, 1e15, .help = "Seed of everything that is random.",
     .facts = DML_PARAM_INFERENCE},
    {"kernels", DML_PARAM_INT, AT(kernels), "6", 1, 1024,
     .help = "Threads that load images; results do not depend on it.",
     .facts = DML_PARAM_MAY_CHANGE | DML_PARAM_SAME_RUN | DML_PARAM_INFERENCE},
};
#undef AT
const struct dml_param_table dml_training_params =
    DML_PARAM_TABLE("Training", struct dml_training_options, training);

#define AT(field) offsetof(struct dml_group_flags, field)
static const struct dml_param groups[] = {
    {"criterion_lr", DML_PARAM_FLOAT, AT(criterion_lr), "-1", -1, INFINITY,
     .help = "Learning rate of the criterion's parameters (proxies and the like); -1: each one's "
             "own.",
     .facts = DML_PARAM_MAY_CHANGE},
    {"criterion_decay", DML_PARAM_FLOAT, AT(criterion_decay), "0", 0, INFINITY,
     .help = "Decay of the criterion's parameters.", .facts = DML_PARAM_MAY_CHANGE},
    {"decay_weights_only", DML_PARAM_FLAG, AT(decay_weights_only),
     .help = "No decay of biases, norms and other one-dimensional parameters."},
    {"layer_decay", DML_PARAM_FLOAT, AT(layer_decay), "1", 0, 1, true,
     .help = "The rate is multiplied by this once more for every block further from the head."},
    {"param_groups", DML_PARAM_STRINGS, AT(param_groups),
     .help = "Groups with settings of their own, PATTERN:lr=X,decay=Y, as in "
             "'layer4.*:lr=1e-4' or 'criterion.*:decay=0.1'; the first pattern that matches a "
             "parameter's name counts."},
    {"list_groups", DML_PARAM_FLAG, AT(list_groups),
     .help = "Show which parameter is in which group, with rate and decay, instead of training.",
     .facts = DML_PARAM_MAY_CHANGE},
    {"freeze", DML_PARAM_STRINGS, AT(freeze),
     .help = "Patterns of the network's parameters that do not learn: 'conv1*' 'layer1.*'."},
    {"freeze_layers", DML_PARAM_INT, AT(freeze_layers), "0", 0, 1000,
     .help = "The first layers do not learn; 1: the stem, 2: the first block too, and so on."},
    {"freeze_norms", DML_PARAM_FLAG, AT(freeze_norms),
     .help = "Weights and biases of batch norms do not learn."},
    {"freeze_backbone_epochs", DML_PARAM_INT, AT(freeze_backbone_epochs), "0", 0, 1000000,
     .help = "For this many epochs at the start only head and criterion learn."},
    {"freeze_backbone_rate", DML_PARAM_FLAG, AT(freeze_backbone_rate),
     .help = "In those epochs the backbone's rate is 0, but the optimiser's states are updated, "
             "instead of starting afterwards."},
};
#undef AT
const struct dml_param_table dml_group_params =
    DML_PARAM_TABLE("Parameter groups", struct dml_group_flags, groups);

#define AT(field) offsetof(struct dml_schedule_flags, field)
static const char *const units[] = {"own", "epoch", "step", NULL};
static const struct dml_param schedule[] = {
    {"warmup_epochs", DML_PARAM_INT, AT(warmup_epochs), "0", 0, 1000000,
     .help = "Rates rise linearly over this many epochs, step by step (with --schedule_unit epoch "
             "epoch by epoch); the schedule begins afterwards (step and multistep count from the "
             "run's start)."},
    {"warmup_steps", DML_PARAM_INT, AT(warmup_steps), "0", 0, 1e15, .help = "The same, in steps."},
    {"warmup_start", DML_PARAM_FLOAT, AT(warmup_start), "0", 0, 1,
     .help = "The first step's share of the rate."},
    {"schedule_unit", DML_PARAM_CHOICE, AT(schedule_unit), "own", .choices = units,
     .help = "What the schedule counts; own: epochs for step, multistep, exponential and plateau, "
             "steps for the others."},
    {"schedule_epochs", DML_PARAM_INT, AT(schedule_epochs), "0", 0, 1000000,
     .help =
         "The schedule's length, warm-up included; after it the last rate is kept. 0: --n_epochs."},
    {"schedule_metric", DML_PARAM_STRING, AT(schedule_metric), "loss",
     .help = "What plateau looks at: the training loss, or a metric on the validation part (where "
             "there is none, on the test part)."},
};
#undef AT
const struct dml_param_table dml_schedule_params =
    DML_PARAM_TABLE_OF("Schedule", struct dml_schedule_flags, schedule, DML_PARAM_MAY_CHANGE);

#define AT(field) offsetof(struct dml_step_flags, field)
static const char *const average_starts[] = {
    [DML_AVERAGE_FROM_START] = "weights", [DML_AVERAGE_FROM_FIRST_STEP] = "first_step", NULL};
static const struct dml_param step[] = {
    {"clip_value", DML_PARAM_FLOAT, AT(clip_value), "0", 0, INFINITY,
     .help =
         "Every gradient, the criterion's too, is clipped to at most this size; 0: no clipping.",
     .facts = DML_PARAM_MAY_CHANGE},
    {"clip_norm", DML_PARAM_FLOAT, AT(clip_norm), "0", 0, INFINITY,
     .help = "The network's gradient is scaled down to this norm; 0: no scaling.",
     .facts = DML_PARAM_MAY_CHANGE},
    {"ema", DML_PARAM_FLOAT, AT(ema), "0", 0, 0.9999999,
     .help = "Decay of a running average of the network's weights (0.999, say), which is evaluated "
             "alongside the weights themselves; 0: none."},
    {"ema_start", DML_PARAM_CHOICE, AT(ema_start), "weights", .choices = average_starts,
     .help = "The average starts as the weights that the run starts with, or as those after its "
             "first step."},
};
#undef AT
const struct dml_param_table dml_step_params =
    DML_PARAM_TABLE("Clipping and averaging", struct dml_step_flags, step);

#define AT(field) offsetof(struct dml_network_flags, field)
static const char *const precisions[] = {[DML_PRECISION_FP32] = "fp32",
                                         [DML_PRECISION_BF16] = "bf16",
                                         [DML_PRECISION_TF32] = "tf32",
                                         NULL};
static const char *const pools[] = {
    [DML_POOL_OWN] = "own",       [DML_POOL_AVG] = "avg", [DML_POOL_MAX] = "max",
    [DML_POOL_DOUBLE] = "double", [DML_POOL_GEM] = "gem", NULL};
static const char *const head_norms[] = {[DML_HEAD_NORM_NONE] = "own",
                                         [DML_HEAD_NORM_AFFINE] = "layernorm",
                                         [DML_HEAD_NORM_PLAIN] = "plainnorm",
                                         NULL};
static const struct dml_param network[] = {
    {"arch", DML_PARAM_STRING, AT(arch), "resnet50_frozen_normalize",
     .help =
         "Backbone and its options: _frozen (batch norm keeps its running statistics), "
         "_frozen_affine (their weights and biases do not learn either), _normalize (embeddings of "
         "length 1), _avg, _max, _double, _gem (the pooling), _layernorm (a layer norm before the "
         "last linear layer), _plainnorm (one without weight and bias), _mlp (a hidden layer, as "
         "wide as the feature, and a relu before the last linear layer; _mlp512: of that width), "
         "_he (the head starts from N(0, 2 / embed_dim)), _orthogonal (it starts with orthonormal "
         "rows). Vision transformers, also by timm's names: _avg (mean of the patches), _clsavg "
         "(class token and mean), _droppath0.1, _dinorule and _plainrule (how position embeddings "
         "are resampled), _noprojection (clipb16); `dml list` shows all.",
     .facts = DML_PARAM_INFERENCE},
    {"pool", DML_PARAM_CHOICE, AT(pool), "own", .choices = pools,
     .help = "Pooling of the last feature map: average, maximum, their sum (double), or a "
             "generalised mean whose power pool.p learns from 3 on; own: as --arch says, else "
             "average."},
    {"head_norm", DML_PARAM_CHOICE, AT(head_norm), "own", .choices = head_norms,
     .help = "Layer norm before the last linear layer, or one without weight and bias; own: as "
             "--arch says, else none."},
    {"head_hidden", DML_PARAM_INT, AT(head_hidden), "0", 0, 65536,
     .help = "Width of a hidden layer in the head, with a relu after it; 0: as --arch says, else "
             "none."},
    {"head_start", DML_PARAM_CHOICE, AT(head_start), "own", .choices = dml_head_starts,
     .help = "How the head's linear layers start: N(0, 2 / outputs) or orthonormal rows, biases 0; "
             "own: as --arch says, else PyTorch's default."},
    {"embed_dim", DML_PARAM_INT, AT(embed_dim), "128", 0, 65536,
     .help = "Dimensions of an embedding; 0: the backbone's feature itself, without a linear "
             "layer."},
    {"not_pretrained", DML_PARAM_FLAG, AT(not_pretrained),
     .help = "Start from random weights instead of ImageNet's.", .facts = DML_PARAM_MAY_CHANGE},
    {"weights", DML_PARAM_STRING, AT(weights),
     .help = "Pretrained weights: safetensors or PyTorch's. Without it the backbone's own file is "
             "looked up in $DML_WEIGHTS and ~/.cache/dml.",
     .facts = DML_PARAM_MAY_CHANGE | DML_PARAM_INFERENCE},
    {"micro_bs", DML_PARAM_INT, AT(micro_bs), "0", 0, 1 << 20,
     .help = "Compute a batch in pieces of this many images, with the memory of one piece and "
             "exactly the same gradient; frozen batch norm only. 0: whole.",
     .facts = DML_PARAM_MAY_CHANGE},
    {"gpu_classes", DML_PARAM_INT, AT(gpu_classes), "10000", 1, INT32_MAX,
     .help =
         "On a GPU: from this many training classes on it also holds class weights and proxies, "
         "compares batches with them and updates them.",
     .facts = DML_PARAM_MAY_CHANGE | DML_PARAM_SAME_RUN},
    {"recompute", DML_PARAM_FLAG, AT(recompute),
     .help = "Transformers: keep only what leaves a block, and recompute the rest in the backward "
             "pass: a fraction of the memory for about a quarter more time, and exactly the same "
             "gradient.",
     .facts = DML_PARAM_MAY_CHANGE},
    {"no_sync_bn", DML_PARAM_FLAG, AT(no_sync_bn),
     .help = "With --ranks: batch norm has the statistics of each rank's own images instead of the "
             "whole batch's."},
    {"precision", DML_PARAM_CHOICE, AT(precision), "fp32", .choices = precisions,
     .help = "Of activations and convolutions; in transformers, of the products in linear layers, "
             "whose sums and results stay fp32. tf32: fp32 multiplied with 10 bits of mantissa, on "
             "GPUs only.",
     .facts = DML_PARAM_MAY_CHANGE | DML_PARAM_INFERENCE},
};
#undef AT
const struct dml_param_table dml_network_params =
    DML_PARAM_TABLE("Network", struct dml_network_flags, network);

#define AT(field) offsetof(struct dml_evaluation_flags, field)
static const char *const evaltypes[] = {"discriminative", NULL};
static const struct dml_param evaluation[] = {
    {"evaluation_metrics", DML_PARAM_STRINGS, AT(evaluation_metrics), DML_DEFAULT_METRICS(" "),
     .help = "Metrics computed after an epoch."},
    {"storage_metrics", DML_PARAM_STRINGS, AT(storage_metrics), "e_recall@1",
     .help = "An improvement in one of these writes a checkpoint."},
    {"evaltypes", DML_PARAM_STRINGS, AT(evaltypes), "discriminative", .choices = evaltypes,
     .help = "Embeddings of the network to evaluate."},
    {"no_train_metrics", DML_PARAM_FLAG, AT(no_train_metrics),
     .help = "Leave out the training set."},
    {"eval_every", DML_PARAM_INT, AT(eval_every), "1", 1, 1000000,
     .help = "Evaluate once in this many epochs, and after the last."},
    {"evaluate_on_gpu", DML_PARAM_FLAG, AT(evaluate_on_gpu),
     .help = "Count the ranks of positives on the GPU: the same values, faster for large sets.",
     .facts = DML_PARAM_SAME_RUN},
};
#undef AT
const struct dml_param_table dml_evaluation_params =
    DML_PARAM_TABLE_OF("Evaluation", struct dml_evaluation_flags, evaluation, DML_PARAM_MAY_CHANGE);

#define AT(field) offsetof(struct dml_setup_options, field)
static const struct dml_param setup[] = {
    {"save_path", DML_PARAM_STRING, AT(save_path), "Training_Results",
     .help = "Results go to <save_path>/<dataset>/<savename>/.", .facts = DML_PARAM_SAME_RUN},
    {"savename", DML_PARAM_STRING, AT(savename), "group_plus_seed",
     .help = "Name of the run's folder. group_plus_seed: <group>_s<seed> with --log_online or a "
             "--group, else data set, backbone and time. A taken name gets _1, _2, ...",
     .facts = DML_PARAM_SAME_RUN},
    {"params", DML_PARAM_STRING, AT(params),
     .help = "Read parameters from a run's parameters.json; flags on the command line win.",
     .facts = DML_PARAM_SAME_RUN},
    {"resume", DML_PARAM_STRING, AT(resume),
     .help = "A run's folder, or its state.safetensors: continue it there (with --savename: in a "
             "new folder). Flags left out are those of the run; what would make it another "
             "experiment is refused.",
     .facts = DML_PARAM_SAME_RUN},
    {"state_minutes", DML_PARAM_FLOAT, AT(state_minutes), "10", 0, INFINITY,
     .help = "Minutes between saves of the whole state that --resume reads; it is also saved at "
             "the end and on Ctrl-C.",
     .facts = DML_PARAM_SAME_RUN},
    {"changed_data", DML_PARAM_FLAG, AT(changed_data),
     .help = "With --resume: continue although classes or images are not those that the run began "
             "with, if they fit its state.",
     .facts = DML_PARAM_SAME_RUN},
    {"ranks", DML_PARAM_INT, AT(ranks), "1", 1, 4096,
     .help = "Start this many processes on this machine by mpirun, which share a batch, or the "
             "images to "
             "embed, and the cores. Across machines: mpirun or srun starts dml itself.",
     .facts = DML_PARAM_SAME_RUN | DML_PARAM_INFERENCE},
    {"rank_limit", DML_PARAM_FLOAT, AT(rank_limit), "1800", 0.1, INFINITY,
     .help =
         "Seconds that a process waits for another one before it counts that one as lost; at least "
         "20 while they start.",
     .facts = DML_PARAM_SAME_RUN | DML_PARAM_INFERENCE},
    {"plugin", DML_PARAM_STRINGS, AT(plugin), .help = "Shared objects with methods of your own.",
     .facts = DML_PARAM_SAME_RUN | DML_PARAM_INFERENCE},
    {"gpu", DML_PARAM_INTS, AT(gpu), "0", 0, 1024,
     .help = "The GPU that computes the network (docs/GPU.md); an error if it cannot be used. "
             "Without the flag it is GPU 0 if there is one, else the processor. Several: the "
             "ranks of a machine take them in turn.",
     .facts = DML_PARAM_SAME_RUN | DML_PARAM_INFERENCE},
};
#undef AT
const struct dml_param_table dml_setup_params =
    DML_PARAM_TABLE_OF("Setup", struct dml_setup_options, setup, DML_PARAM_MAY_CHANGE);

enum dml_status dml_network_graph(const struct dml_network_flags *flags, int embed_dim, int crop,
                                  struct dml_graph **out) {
    const char *pool = flags->pool ? pools[flags->pool] : NULL;
    const char *norm = flags->head_norm ? head_norms[flags->head_norm] : NULL;
    const char *start = flags->head_start ? dml_head_starts[flags->head_start] : NULL;
    char hidden[32] = "";
    if (flags->head_hidden)
        snprintf(hidden, sizeof hidden, "_mlp%lld", (long long)flags->head_hidden);
    char *arch =
        dml_format("%s%s%s%s%s%s%s%s", flags->arch, pool ? "_" : "", pool ? pool : "",
                   norm ? "_" : "", norm ? norm : "", hidden, start ? "_" : "", start ? start : "");
    *out = NULL;
    enum dml_status status = arch ? dml_graph_build(arch, embed_dim, crop, out) : DML_ERROR_MEMORY;
    free(arch);
    return status;
}

enum dml_status dml_backend_wishes(const struct dml_params *params, const struct dml_comm *comm,
                                   struct dml_backend_wishes *out) {
    const struct dml_network_flags *network_flags = dml_params_options(params, &dml_network_params);
    const struct dml_setup_options *setup_flags = dml_params_options(params, &dml_setup_params);
    const struct dml_ints *gpus = &setup_flags->gpu;
    size_t place = comm ? (size_t)comm->local_rank % gpus->count : 0;
    *out = (struct dml_backend_wishes){.precision = network_flags->precision,
                                       .micro_batches = network_flags->micro_bs > 0,
                                       .gpu = dml_params_given(params, "gpu"),
                                       .device = (int)gpus->items[place]};
    if (gpus->count > 1 && out->gpu && (!comm || comm->size == 1))
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--gpu: one GPU computes a process, not %zu; --ranks %zu starts a process "
                        "for each",
                        gpus->count, gpus->count);
    return DML_OK;
}

enum dml_status dml_train_params(struct dml_params **out) {
    static const struct dml_param_table *const tables[] = {
        &dml_dataset_params,  &dml_training_params, &dml_group_params,      &dml_schedule_params,
        &dml_step_params,     &dml_network_params,  &dml_evaluation_params, &dml_setup_params,
        &dml_tracking_params, &dml_sampling_params,
    };
    enum dml_status status = dml_params_new(out);
    for (size_t i = 0; !status && i < COUNT(tables); i++)
        status = dml_params_add(*out, tables[i]);
    for (int kind = 0; kind < DML_KIND_COUNT; kind++) {
        const struct dml_method *method;
        if (kind == DML_BACKBONE) /* whose options are part of --arch */
            continue;
        for (size_t i = 0; !status && (method = dml_method_at(kind, i)); i++)
            status = dml_params_add(*out, method->params);
    }
    if (status) {
        dml_params_free(*out);
        *out = NULL;
    }
    return status;
}

enum dml_status dml_train_name_csv(struct dml_params *params) {
    const struct dml_dataset_options *data = dml_params_options(params, &dml_dataset_params);
    bool named = strcmp(data->dataset, DML_DATASET_DEFAULT) != 0; /* by --params, for instance */
    if (!*data->dataset_csv || named || dml_params_given(params, "dataset"))
        return DML_OK;
    const char *slash = strrchr(data->dataset_csv, '/');
    const char *name = slash ? slash + 1 : data->dataset_csv, *dot = strrchr(name, '.');
    int length = dot > name ? (int)(dot - name) : (int)strlen(name);
    char *flag = dml_format("--dataset=%.*s", length, name);
    enum dml_status status = flag ? dml_params_parse(params, 1, &flag) : DML_ERROR_MEMORY;
    free(flag);
    return status;
}
