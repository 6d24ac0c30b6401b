#include "support/trajectory2.h"

#include "support/fill.h"
#include "support/golden.h"
#include "support/tested.h"
#include "support/vit_case.h"
#include "train/learner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double number(const cJSON *json, const char *name) {
    const cJSON *entry = cJSON_GetObjectItem(json, name);
    if (!cJSON_IsNumber(entry))
        fail_msg("there is no number '%s'", name);
    return entry->valuedouble;
}

double setting(const cJSON *json, const char *name, double fallback) {
    return cJSON_GetObjectItem(json, name) ? number(json, name) : fallback;
}

/* Flags being put together. */
struct flags {
    char text[2048];
    size_t used;
};

static void add(struct flags *flags, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct flags *flags, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    flags->used += (size_t)vsnprintf(flags->text + flags->used, sizeof flags->text - flags->used,
                                     format, arguments);
    va_end(arguments);
    assert_true(flags->used < sizeof flags->text);
}

/* The optimiser's name in lower case, and its constants as flags. SGD's momentum is 0 unless set:
 * PyTorch's default is not ours. */
static void optimiser_flags(const cJSON *json, const char *kind_key, char name[16],
                            struct flags *flags) {
    const char *kind = cJSON_GetObjectItem(json, kind_key)->valuestring;
    size_t length = strlen(kind);
    assert_true(length < 16);
    for (size_t i = 0; i <= length; i++)
        name[i] = kind[i] >= 'A' && kind[i] <= 'Z' ? (char)(kind[i] + 32) : kind[i];
    const char *prefix = strncmp(name, "adam", 4) ? name : "adam";
    const cJSON *betas = cJSON_GetObjectItem(json, "betas");
    if (betas)
        add(flags, " --adam_beta1 %.17g --adam_beta2 %.17g",
            cJSON_GetArrayItem(betas, 0)->valuedouble, cJSON_GetArrayItem(betas, 1)->valuedouble);
    if (cJSON_GetObjectItem(json, "eps"))
        add(flags, " --%s_epsilon %.17g", prefix, number(json, "eps"));
    if (cJSON_GetObjectItem(json, "alpha"))
        add(flags, " --rmsprop_alpha %.17g", number(json, "alpha"));
    if (strncmp(name, "adam", 4))
        add(flags, " --%s_momentum %.17g", name, setting(json, "momentum", 0));
    if (cJSON_IsTrue(cJSON_GetObjectItem(json, "nesterov")))
        add(flags, " --sgd_nesterov");
}

struct opened_method open_golden_optimiser(const cJSON *json) {
    static const char *const known[] = {"kind", "betas", "eps", "alpha", "momentum", "nesterov"};
    const cJSON *item;
    cJSON_ArrayForEach(item, json) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found |= !strcmp(item->string, known[i]);
        if (!found)
            fail_msg("an optimiser's setting that the test does not know: %s", item->string);
    }
    char name[16];
    struct flags flags = {0};
    optimiser_flags(json, "kind", name, &flags);
    return open_method(DML_OPTIMISER, name, flags.text);
}

/* The name of the schedule that has these parameters, and its flags; those that all schedules share
 * go to `shared`. A length is set by *total. */
static const char *schedule_flags(const cJSON *json, struct flags *flags, struct flags *shared,
                                  double *total) {
    *total = setting(json, "total", setting(json, "total_steps", 0));
    if (cJSON_GetObjectItem(json, "warmup"))
        add(shared, " --warmup_steps %.0f --warmup_start %.17g", number(json, "warmup"),
            number(json, "start_factor"));
    if (cJSON_GetObjectItem(json, "step_size")) {
        add(flags, " --step_size %.0f --gamma %.17g", number(json, "step_size"),
            number(json, "gamma"));
        return "step";
    }
    if (cJSON_GetObjectItem(json, "milestones")) {
        const cJSON *item;
        add(flags, " --gamma %.17g --tau", number(json, "gamma"));
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(json, "milestones"))
            add(flags, " %d", item->valueint);
        return "multistep";
    }
    if (cJSON_GetObjectItem(json, "gamma")) {
        add(flags, " --exponential_gamma %.17g", number(json, "gamma"));
        return "exponential";
    }
    if (cJSON_GetObjectItem(json, "power")) {
        add(flags, " --polynomial_power %.17g", number(json, "power"));
        return "polynomial";
    }
    if (cJSON_GetObjectItem(json, "pct_start")) {
        bool cycle = cJSON_IsTrue(cJSON_GetObjectItem(json, "cycle_momentum"));
        const char *anneal = cJSON_GetObjectItem(json, "anneal")->valuestring;
        add(flags, " --onecycle_pct %.17g --onecycle_div %.17g --onecycle_final_div %.17g%s%s",
            number(json, "pct_start"), number(json, "div_factor"), number(json, "final_div_factor"),
            strncmp(anneal, "lin", 3) ? "" : " --onecycle_linear",
            cycle ? "" : " --onecycle_fixed_momentum");
        if (cycle)
            add(flags, " --onecycle_base_momentum %.17g --onecycle_max_momentum %.17g",
                setting(json, "base_momentum", 0.85), setting(json, "max_momentum", 0.95));
        return "onecycle";
    }
    if (cJSON_GetObjectItem(json, "patience")) {
        assert_true(setting(json, "eps", 1e-8) == 1e-8);
        add(flags, " --plateau_factor %.17g --plateau_patience %.0f --plateau_cooldown %.0f",
            number(json, "factor"), number(json, "patience"), setting(json, "cooldown", 0));
        add(flags, " --plateau_threshold %.17g --plateau_min_lr %.17g",
            setting(json, "threshold", 1e-4), setting(json, "min_lr", 0));
        return "plateau";
    }
    if (cJSON_GetObjectItem(json, "minimum")) {
        add(flags, " --cosine_min_lr %.17g", number(json, "minimum"));
        return "cosine";
    }
    assert_int_equal(cJSON_GetArraySize(json), 0);
    return "constant";
}

/* A schedule looks at one value per step, the smaller the better unless `mode` says "max". */
static bool larger_is_better;

struct opened_method open_golden_schedule(const cJSON *parameters, struct dml_schedule_flags *flags,
                                          struct dml_run_schedule *schedule) {
    struct flags own = {0}, shared = {0};
    double total;
    const char *name = schedule_flags(parameters, &own, &shared, &total);
    const cJSON *mode = cJSON_GetObjectItem(parameters, "mode");
    larger_is_better = mode && !strcmp(mode->valuestring, "max");
    struct opened_method method = open_method(DML_SCHEDULE, name, own.text);
    uint64_t warmup = (uint64_t)setting(parameters, "warmup", 0);
    *flags = (struct dml_schedule_flags){.warmup_start = setting(parameters, "start_factor", 0),
                                         .warmup_steps = (int64_t)warmup,
                                         .schedule_unit = DML_UNIT_STEP};
    *schedule = (struct dml_run_schedule){.method = (const struct dml_schedule *)method.method,
                                          .options = method.options,
                                          .flags = flags,
                                          .per_step = true,
                                          .steps_per_epoch = 1,
                                          .warmup = warmup,
                                          .length = total > 0 ? (uint64_t)total - warmup : 1000,
                                          .memory.best = NAN};
    return method;
}

void observe_golden(struct dml_run_schedule *schedule, const cJSON *metric, uint64_t step) {
    schedule->method->observe(schedule->options, &schedule->memory,
                              cJSON_GetArrayItem(metric, (int)step)->valuedouble, larger_is_better);
}

/* A network that trains as a run does, from the flags that say so. */
struct training {
    struct dml_params *params;
    struct dml_graph *graph;
    struct dml_network *network;
    struct dml_objective *objective;
    struct dml_criterion_parameter beta;
    struct dml_learner learner;
    size_t batch, size, dim;
};

/* The graph of a case; NULL where there is no such backbone or pooling. *grid is that of the stored
 * position embeddings, 0 where there are none. */
static struct dml_graph *graph_of(const cJSON *json, size_t *grid) {
    const cJSON *network = cJSON_GetObjectItem(json, "network");
    const cJSON *arch = cJSON_GetObjectItem(network, "arch");
    int size = (int)number(json, "size");
    *grid = 0;
    if (!arch) {
        const struct vit_case vit = vit_case_read(network);
        *grid = vit.stored_grid;
        return vit_case_graph(&vit, size);
    }
    static const char *const pools[][2] = {{"avg", ""},
                                           {"max", "_max"},
                                           {"avgmax", "_double"},
                                           {"double", "_double"},
                                           {"gem", "_gem"}};
    static const char *const norms[][2] = {
        {"none", ""}, {"affine", "_layernorm"}, {"plain", "_plainnorm"}};
    const cJSON *head_norm = cJSON_GetObjectItem(network, "head_norm");
    const char *pool = NULL, *norm = head_norm ? NULL : "";
    for (size_t i = 0; i < sizeof pools / sizeof *pools; i++)
        if (!strcmp(pools[i][0], json_text(network, "pool")))
            pool = pools[i][1];
    for (size_t i = 0; head_norm && i < sizeof norms / sizeof *norms; i++)
        if (!strcmp(norms[i][0], json_text(network, "head_norm")))
            norm = norms[i][1];
    char text[128];
    snprintf(text, sizeof text, "%s%s%s%s_normalize", arch->valuestring, pool ? pool : "",
             norm ? norm : "", strcmp(json_text(network, "batchnorm"), "frozen") ? "" : "_frozen");
    struct dml_graph *graph = NULL;
    if (pool && norm && dml_backbone_find(text))
        assert_ok(dml_graph_build(text, (int)number(json, "embed_dim"), size, &graph));
    return graph;
}

static void training_flags(const cJSON *json, size_t steps, struct flags *flags) {
    const cJSON *network = cJSON_GetObjectItem(json, "network"), *item;
    char optimiser[16];
    struct flags constants = {0};
    double total, lr = number(json, "lr");
    optimiser_flags(json, "optimizer", optimiser, &constants);
    add(flags, "--optim %s%s --lr %.17g --fc_lr %.17g --decay %.17g --criterion_lr %.17g",
        optimiser, constants.text, lr, lr * setting(json, "head_factor", 1),
        number(json, "weight_decay"), number(json, "beta_lr"));
    struct flags own = {0};
    const char *scheduler =
        schedule_flags(cJSON_GetObjectItem(json, "schedule_parameters"), &own, flags, &total);
    add(flags, " --scheduler %s%s --schedule_unit step --n_epochs %zu", scheduler, own.text, steps);
    if (total > 0)
        add(flags, " --schedule_epochs %.0f", total);
    add(flags, " --layer_decay %.17g --clip_norm %.17g --clip_value %.17g --ema %.17g",
        setting(json, "layer_decay", 1), setting(json, "clip_norm", 0),
        setting(json, "clip_value", 0), setting(json, "ema", 0));
    add(flags, " --freeze_backbone_epochs %.0f", setting(json, "warm", 0));
    if (strncmp(cJSON_GetObjectItem(json, "no_decay")->valuestring, "every", 5) == 0)
        add(flags, " --decay_weights_only");
    if (cJSON_IsTrue(cJSON_GetObjectItem(network, "batchnorm_affine_frozen")))
        add(flags, " --freeze_norms");
    if (cJSON_GetArraySize(cJSON_GetObjectItem(json, "frozen")) > 0)
        add(flags, " --freeze");
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(json, "frozen"))
        add(flags, " %s.*", item->valuestring);
}

static void open_training(struct training *t, const cJSON *json, struct dml_graph *graph,
                          size_t grid, size_t classes, size_t steps) {
    *t = (struct training){.graph = graph,
                           .batch = (size_t)number(json, "batch"),
                           .size = (size_t)number(json, "size"),
                           .dim = (size_t)number(json, "embed_dim")};
    struct flags flags = {0};
    training_flags(json, steps, &flags);
    assert_ok(dml_train_params(&t->params));
    assert_ok(dml_params_parse_text(t->params, flags.text));
    assert_ok(dml_schedule_check(t->params));
    const struct dml_network_options options = {.batch_hint = t->batch};
    assert_ok(dml_network_open(tested(), t->graph, &options, &t->network));
    fill_network_stored(t->network, grid);
    const struct dml_criterion_context context = {
        .dim = t->dim, .classes = classes, .lr = number(json, "lr")};
    assert_ok(dml_objective_open("margin", NULL, &context, &t->objective));
    assert_int_equal(dml_objective_parameters(t->objective, &t->beta, 1), 1);
    assert_ok(dml_learner_open(t->params, t->network, t->objective, 1, &t->learner));
}

static void close_training(struct training *t) {
    dml_learner_close(&t->learner);
    dml_objective_free(t->objective);
    dml_network_close(t->network);
    dml_params_free(t->params);
}

static double train(struct training *t, uint64_t step, const struct dml_images *images,
                    const int32_t *labels, const int32_t *triplets, double *norm) {
    size_t n = t->batch;
    float embeddings[n * t->dim], grad[n * t->dim];
    assert_ok(dml_network_forward(t->network, images, embeddings));
    const struct dml_batch batch = {n, t->dim, embeddings, labels, NULL};
    const struct dml_tuples tuples = {.kind = DML_TUPLES_TRIPLETS,
                                      .count = n,
                                      .capacity = n,
                                      .anchors = (int32_t *)triplets,
                                      .positives = (int32_t *)triplets + n,
                                      .negatives = (int32_t *)triplets + 2 * n};
    struct dml_rng rng = dml_rng_make(0, DML_PURPOSE_CRITERION, 0, 0);
    struct dml_loss loss;
    struct dml_gradient_size size;
    bool clipped;
    assert_ok(dml_objective_compute(t->objective, &batch, &tuples, &rng, grad, &loss));
    assert_ok(dml_network_backward(t->network, grad));
    assert_ok(dml_learner_step(&t->learner, step, &size, &clipped));
    *norm = size.norm;
    return loss.value;
}

/* Embeddings of length 1: their largest difference. A pre-activation that rounding puts on the
 * other side of zero in a late step is worth 1e-5 here, and which ones there are depends on the
 * input's last bits. */
static void check_embeddings(struct training *t, const struct dml_images *images, const char *name,
                             const char *file) {
    size_t count;
    double *expected = golden_doubles(&count, "trajectory2/networks/%s/%s.npy", name, file);
    float embeddings[t->batch * t->dim];
    assert_int_equal(count, t->batch * t->dim);
    assert_ok(dml_network_embed(t->network, images, embeddings));
    double worst = 0;
    for (size_t i = 0; i < count; i++)
        worst = fmax(worst, fabs(embeddings[i] - expected[i]));
    printf("%s: %s %.2g\n", name, file, worst);
    assert_true(worst <= 5e-5);
    free(expected);
}

/* PyTorch's float32 is off by up to 1e-5 in losses and 3e-6 in embeddings. */
bool check_golden_network(const char *name) {
    cJSON *json = golden_json("trajectory2/networks/%s/case.json", name);
    size_t grid;
    struct dml_graph *graph = graph_of(json, &grid);
    if (!graph) {
        cJSON_Delete(json);
        return false;
    }
    size_t steps, classes, count;
    double *losses = golden_doubles(&steps, "trajectory2/networks/%s/losses.npy", name);
    double *beta = golden_doubles(&classes, "trajectory2/networks/%s/final_beta.npy", name);
    int32_t *labels = golden_ints(NULL, "trajectory2/networks/%s/labels.npy", name);
    int32_t *triplets = golden_ints(&count, "trajectory2/networks/%s/triplets.npy", name);
    struct training t;
    open_training(&t, json, graph, grid, classes, steps);
    assert_int_equal(count, steps * 3 * t.batch);
    size_t pixels = t.batch * 3 * t.size * t.size;
    float *input = malloc(pixels * sizeof *input);
    assert_non_null(input);
    const struct dml_images images = {
        .n = t.batch, .height = (int)t.size, .width = (int)t.size, .input = input};
    double worst = 0, worst_norm = 0;
    for (size_t s = 0; s < steps; s++) {
        char source[16];
        double norm;
        snprintf(source, sizeof source, "input%zu", s % 3);
        fill_signed(source, 2.0, input, pixels);
        double loss = train(&t, s, &images, labels, triplets + s * 3 * t.batch, &norm);
        double size =
            cJSON_GetArrayItem(cJSON_GetObjectItem(json, "gradient_norms"), (int)s)->valuedouble;
        worst = fmax(worst, fabs(loss - losses[s]) / fabs(losses[s]));
        worst_norm = fmax(worst_norm, fabs(norm - size) / size);
    }
    printf("%s: losses %.2g, gradient norms %.2g\n", name, worst, worst_norm);
    assert_true(worst <= 1e-4 && worst_norm <= 1e-3);
    for (size_t c = 0; c < classes; c++)
        assert_true(fabs(t.beta.values[c] - beta[c]) < 1e-5);
    check_embeddings(&t, &images, name, "final_embeddings");
    if (setting(json, "ema", 0) > 0) {
        assert_ok(dml_network_exchange(t.network));
        check_embeddings(&t, &images, name, "average_embeddings");
    }
    close_training(&t);
    free(input);
    free(losses);
    free(beta);
    free(labels);
    free(triplets);
    cJSON_Delete(json);
    return true;
}
