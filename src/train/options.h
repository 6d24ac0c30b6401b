#ifndef DML_TRAIN_OPTIONS_H
#define DML_TRAIN_OPTIONS_H

#include "backends/backend.h"
#include "comm/comm.h"
#include "dml/params.h"

/* The flags of a training run that belong to no single method. Data sets have their own table
 * (data/dataset.h), and so does every criterion, miner and sampler. */

struct dml_training_options {
    double lr, fc_lr, decay;
    int64_t n_epochs, kernels, bs, seed;
    char *scheduler, *optim, *loss, *batch_mining, *data_sampler;
    int64_t samples_per_class;
    struct dml_floats loss_weights;
    int64_t xbm_size;
};
extern const struct dml_param_table dml_training_params;

/* Which parameters learn, and how fast; see train/groups.h. */
struct dml_group_flags {
    double criterion_lr, criterion_decay, layer_decay;
    bool decay_weights_only, list_groups, freeze_norms;
    struct dml_strings param_groups, freeze;
    int64_t freeze_layers, freeze_backbone_epochs;
    bool freeze_backbone_rate;
};
extern const struct dml_param_table dml_group_params;

/* What all schedules share; see train/schedule.h. */
enum dml_unit_choice { DML_UNIT_OWN, DML_UNIT_EPOCH, DML_UNIT_STEP };

struct dml_schedule_flags {
    int64_t warmup_epochs, warmup_steps, schedule_epochs;
    double warmup_start;
    enum dml_unit_choice schedule_unit;
    char *schedule_metric;
};
extern const struct dml_param_table dml_schedule_params;

/* What happens to gradients and weights around an optimiser's step. */
enum dml_average_start { DML_AVERAGE_FROM_START, DML_AVERAGE_FROM_FIRST_STEP };

struct dml_step_flags {
    double clip_value, clip_norm, ema;
    enum dml_average_start ema_start;
};
extern const struct dml_param_table dml_step_params;

struct dml_network_flags {
    int64_t embed_dim;
    bool not_pretrained, no_sync_bn;
    char *arch, *weights;
    enum dml_pooling pool; /* of these three the first value means: as --arch says */
    enum dml_head_norm head_norm;
    enum dml_head_start head_start;
    int64_t head_hidden;
    int64_t micro_bs;
    int64_t gpu_classes;
    bool recompute;
    enum dml_precision precision;
};
extern const struct dml_param_table dml_network_params;

/* The graph of --arch with what the other flags add to its options, at `crop` pixels. Caller frees
 * with dml_graph_free. Errors as dml_graph_build. */
enum dml_status dml_network_graph(const struct dml_network_flags *flags, int embed_dim, int crop,
                                  struct dml_graph **out);

/* What the flags ask of a backend, for a rank of `comm`, which takes a GPU according to its place
 * on its machine; NULL: a process on its own. DML_ERROR_UNSUPPORTED: more than one GPU for that. */
enum dml_status dml_backend_wishes(const struct dml_params *params, const struct dml_comm *comm,
                                   struct dml_backend_wishes *out);

struct dml_evaluation_flags {
    bool no_train_metrics, evaluate_on_gpu;
    struct dml_strings evaluation_metrics, storage_metrics, evaltypes;
    int64_t eval_every;
};
extern const struct dml_param_table dml_evaluation_params;

struct dml_setup_options {
    struct dml_ints gpu;
    char *savename, *save_path;
    char *params, *resume;
    struct dml_strings plugin;
    double state_minutes, rank_limit;
    bool changed_data;
    int64_t ranks;
};
extern const struct dml_param_table dml_setup_params;

/* All tables of `dml train` with their defaults: those above, the data set's, the trackers', and
 * those of every registered criterion, miner, sampler and metric. Plugins must be loaded first. */
enum dml_status dml_train_params(struct dml_params **out);

/* Sets --dataset, where only --dataset_csv was given, to the name of that file without folder and
 * ending; results then go by that name. Call it when all parameters are set. */
enum dml_status dml_train_name_csv(struct dml_params *params);

#endif
