/* Gradients of every registered criterion against central differences, on batches that are drawn
 * anew in every run; DML_TEST_SEED repeats one. */
#include "support/golden.h"

#include "dml/dml.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLASSES = 9, MOST = 32, MOST_DIM = 20 };

static uint64_t seed, stream; /* each subject has its own stream */
/* What a criterion learns from: its tuples or the batch, pair lists, or a reference. */
static enum source { USUAL, LISTS, REFERENCE } source;

/* What kind of batch is drawn. */
enum shape {
    PAIRS,      /* normalised, two samples of each class */
    RAGGED,     /* not normalised, classes of one sample and of many */
    DUPLICATES, /* normalised, embeddings that are there twice, in one class and in two */
    ZEROS,      /* as ragged, some embeddings 0 */
    SHAPES,
};

static const char *const shape_names[SHAPES] = {"pairs", "ragged", "duplicates", "zeros"};

/* What criteria are tried with that the usual settings do not suit: each of its rows in turn. */
static const struct subject {
    const char *criterion, *flags;
    double step; /* of the differences: larger where the loss is computed in float32 */
    size_t classes;
} settings[] = {
    {"contrastive", "--loss_contrastive_pos_margin 0.3 --loss_contrastive_neg_margin 1.4", 1e-4,
     CLASSES},
    {"triplet", "--loss_triplet_margin 0.5", 1e-4, CLASSES},
    {"margin", NULL, 1e-4, CLASSES},
    {"margin", "--loss_margin_beta 0.9 --loss_margin_nu 0.03", 1e-4, CLASSES},
    {"margin", "--loss_margin_beta_constant", 1e-4, CLASSES},
    {"quadruplet", NULL, 1e-4, CLASSES},
    {"snr", "--loss_snr_margin 1 --loss_snr_reg_lambda 0.1", 1e-4, CLASSES},
    {"lifted", NULL, 1e-4, CLASSES},
    {"npair", NULL, 1e-4, CLASSES},
    {"angular", "--loss_angular_alpha 40", 1e-4, CLASSES},
    {"multisimilarity", NULL, 2e-3, CLASSES},
    {"multisimilarity", "--loss_multisimilarity_neg_weight 10 --loss_multisimilarity_margin 0.5",
     2e-3, CLASSES},
    {"histogram", "--loss_histogram_nbins 9", 2e-5, CLASSES},
    {"histogram", "--loss_histogram_nbins 2", 2e-5, CLASSES},
    {"proxynca", NULL, 5e-3, CLASSES},
    {"proxynca", NULL, 5e-3, 1100},
    {"softmax", NULL, 5e-3, CLASSES},
    {"softmax", "--loss_softmax_temperature 0.02", 5e-3, 1100},
    {"arcface", NULL, 1e-3, CLASSES},
    {"arcface", "--loss_arcface_feature_scale 90 --loss_arcface_angular_margin 0.1", 2e-3, CLASSES},
    {"softtriplet", NULL, 5e-3, CLASSES},
    {"softtriplet", "--loss_softtriplet_n_centroids 1", 5e-3, CLASSES},
    {"softtriplet", "--loss_softtriplet_n_centroids 4 --loss_softtriplet_reg_weight 2", 5e-3, 300},
    {"cosface", NULL, 5e-4, CLASSES},
    {"cosface", "--loss_cosface_scale 20 --loss_cosface_margin 0.1", 2e-3, 1100},
    {"subcenter_arcface", NULL, 5e-4, CLASSES},
    {"subcenter_arcface", "--loss_subcenter_arcface_sub_centers 1", 5e-4, 300},
    {"sphereface", NULL, 2e-3, CLASSES},
    {"sphereface", "--loss_sphereface_margin 3 --loss_sphereface_scale 5", 1e-3, 300},
    {"large_margin_softmax", NULL, 2e-3, CLASSES},
    {"large_margin_softmax", "--loss_large_margin_softmax_margin 2", 2e-3, 300},
    {"p2sgrad", NULL, 5e-3, CLASSES},
    {"instance", "--loss_instance_gamma 10", 2e-3, CLASSES},
    {"proxyanchor", NULL, 1e-3, CLASSES},
    {"proxyanchor", "--loss_proxyanchor_alpha 8", 2e-3, 300},
    {"proxynca_pp", NULL, 5e-3, CLASSES},
    {"nca", NULL, 2e-3, CLASSES},
    {"nca", "--loss_nca_softmax_scale 8", 1e-3, CLASSES},
    {"ntxent", NULL, 1e-3, CLASSES},
    {"supcon", NULL, 1e-3, CLASSES},
    {"tuplet_margin", NULL, 5e-4, CLASSES},
    {"tuplet_margin", "--loss_tuplet_margin_scale 10 --loss_tuplet_margin_margin 0.5", 1e-3,
     CLASSES},
    {"fastap", "--loss_fastap_num_bins 3", 2e-5, CLASSES},
    {"fastap", NULL, 5e-6, CLASSES},
    {"smoothap", NULL, 2e-5, CLASSES},
    {"smoothap", "--loss_smoothap_temperature 0.2", 1e-4, CLASSES},
    {"recallk", NULL, 2e-5, CLASSES},
    {"recallk", "--loss_recallk_k 1 3 --loss_recallk_temperature 0.1 --loss_recallk_exclude_query",
     1e-4, CLASSES},
    {"recallk", "--loss_recallk_temperature 0.1 --loss_recallk_k_temperature 0.3", 1e-4, CLASSES},
    {"roadmap", NULL, 2e-5, CLASSES},
    {"pnp", NULL, 2e-5, CLASSES},
    {"pnp", "--loss_pnp_variant Ds --loss_pnp_anneal 0.1", 1e-4, CLASSES},
    {"pnp", "--loss_pnp_variant Dq --loss_pnp_anneal 0.1 --loss_pnp_alpha 2", 1e-4, CLASSES},
    {"pnp", "--loss_pnp_variant Iu --loss_pnp_anneal 0.1", 1e-4, CLASSES},
    {"pnp", "--loss_pnp_variant Ib --loss_pnp_anneal 0.1 --loss_pnp_b 5", 1e-4, CLASSES},
    {"ranked_list", NULL, 1e-4, CLASSES},
    {"ranked_list", "--loss_ranked_list_Tp 3 --loss_ranked_list_imbalance 0.2", 1e-4, CLASSES},
    {"hyp_pce", NULL, 1e-4, CLASSES},
    {"hyp_pce", "--loss_hyp_pce_c 1 --loss_hyp_pce_clip_r 0", 1e-4, CLASSES},
    {"hyp_pce", "--loss_hyp_pce_c 0 --loss_hyp_pce_temperature 0.1", 1e-4, CLASSES},
    {"vicreg", "--loss_vicreg_covariance_weight 20", 1e-4, CLASSES},
    {"manifold", NULL, 1e-4, CLASSES},
    {"manifold", "--loss_manifold_n_proxies 4 --loss_manifold_lambda_c 3", 1e-4, CLASSES},
};

/* Criteria whose gradient is not that of their loss, but of one in which weights are constants. */
static bool has_constants(const char *criterion) {
    return strcmp(criterion, "circle") == 0 || strcmp(criterion, "dynamic_soft_margin") == 0;
}

struct trial {
    const struct subject *subject;
    struct dml_objective *objective;
    struct dml_criterion_parameter parameter; /* values NULL: it has none */
    struct dml_tuples tuples;
    size_t n, dim;
    float x[MOST * MOST_DIM], reference[MOST * MOST_DIM];
    int32_t labels[MOST];
    size_t twin[MOST]; /* the first sample with the same embedding */
    bool zero[MOST];
};

static void draw_labels(struct trial *trial, enum shape shape, struct dml_rng *rng) {
    for (size_t i = 0; i < trial->n; i++) {
        bool ragged = shape == RAGGED || shape == ZEROS;
        size_t group = ragged ? (i < 3 ? i : 3 + dml_rng_below(rng, 3)) : i / 2;
        trial->labels[i] = (int32_t)(group % CLASSES);
    }
}

static void draw_embeddings(struct trial *trial, enum shape shape, struct dml_rng *rng) {
    for (size_t i = 0; i < trial->n; i++) {
        float *x = trial->x + i * trial->dim;
        bool copy = shape == DUPLICATES && i % 5 == 4;
        trial->twin[i] = i;
        if (copy) { /* of the sample before, in its class or not, or of one of another class */
            trial->twin[i] = trial->twin[dml_rng_below(rng, i)];
            memcpy(x, trial->x + trial->twin[i] * trial->dim, trial->dim * sizeof *x);
            continue;
        }
        double norm = 0;
        for (size_t k = 0; k < trial->dim; k++) {
            x[k] = (float)dml_rng_normal(rng);
            norm += (double)x[k] * x[k];
        }
        bool ragged = shape == RAGGED || shape == ZEROS;
        float scale = (float)((ragged ? 1.5 : 1) / sqrt(norm));
        if (ragged)
            scale *= (float)(0.5 + dml_rng_uniform(rng));
        trial->zero[i] = shape == ZEROS && i % 6 == 2;
        if (trial->zero[i])
            scale = 0;
        for (size_t k = 0; k < trial->dim; k++)
            x[k] *= scale;
    }
}

static struct dml_batch batch_of(const struct trial *trial, const float *x) {
    return (struct dml_batch){
        .n = trial->n, .dim = trial->dim, .embeddings = x, .labels = trial->labels};
}

static void mine(struct trial *trial, struct dml_rng *rng) {
    static const char *const miners[] = {[DML_TUPLES_TRIPLETS] = "random",
                                         [DML_TUPLES_PAIRS] = "npair",
                                         [DML_TUPLES_SETS] = "lifted",
                                         [DML_TUPLES_LISTS] = "multisimilarity"};
    const struct dml_criterion *criterion = dml_objective_criterion(trial->objective);
    enum dml_tuple_kind kind = source == LISTS ? criterion->may_take : criterion->takes;
    if (kind == DML_TUPLES_NONE || source == REFERENCE)
        return;
    struct dml_miner_context context = {.dim = trial->dim, .margin = 0.2};
    struct dml_mining *mining;
    struct dml_batch batch = batch_of(trial, trial->x);
    assert_ok(dml_mining_open(miners[kind], NULL, &context, &mining));
    assert_ok(dml_mining_compute(mining, &batch, rng, &trial->tuples, NULL));
    dml_mining_free(mining);
}

static void open_trial(struct trial *trial, const struct subject *subject, enum shape shape,
                       struct dml_rng *rng) {
    memset(trial, 0, sizeof *trial);
    trial->subject = subject;
    trial->n = 16 + dml_rng_below(rng, MOST - 15);
    trial->dim = 6 + dml_rng_below(rng, MOST_DIM - 5);
    draw_labels(trial, shape, rng);
    draw_embeddings(trial, shape, rng);
    for (size_t i = 0; i < trial->n * trial->dim; i++)
        trial->reference[i] = (float)(trial->x[i] + 0.2 * dml_rng_normal(rng));
    struct dml_criterion_context context = {
        .dim = trial->dim, .classes = subject->classes, .lr = 1e-3, .seed = dml_rng_bits(rng)};
    assert_ok(dml_objective_open(subject->criterion, subject->flags, &context, &trial->objective));
    dml_objective_parameters(trial->objective, &trial->parameter, 1);
    mine(trial, rng);
}

static void close_trial(struct trial *trial) {
    dml_objective_free(trial->objective);
    dml_tuples_free(&trial->tuples);
}

/* The loss at x; the same generator every time, so that quadruplet draws the same samples. */
static double loss_at(const struct trial *trial, const float *x, float *grad) {
    float unused[MOST * MOST_DIM];
    struct dml_batch batch = batch_of(trial, x);
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_CRITERION, 1, 0);
    struct dml_loss loss;
    /* The reference: like the batch as it was drawn, and each sample has its own copy. */
    int32_t own[MOST];
    for (size_t i = 0; i < trial->n; i++)
        own[i] = (int32_t)i;
    const struct dml_reference reference = {
        .n = trial->n, .embeddings = trial->reference, .labels = trial->labels, .own = own};
    batch.reference = source == REFERENCE ? &reference : NULL;
    bool whole =
        source == REFERENCE ||
        (source == USUAL && dml_objective_criterion(trial->objective)->takes == DML_TUPLES_NONE);
    assert_ok(dml_objective_compute(trial->objective, &batch, whole ? NULL : &trial->tuples, &rng,
                                    grad ? grad : unused, &loss));
    assert_true(isfinite(loss.value));
    assert_true(loss.active <= loss.tuples);
    return loss.value;
}

/* A direction of length 1: half the gradient's, half at random; the same for equal embeddings. */
static void draw_direction(const float *grad, size_t count, double *direction,
                           struct dml_rng *rng) {
    double size = 0, noise = 0, total = 0;
    for (size_t i = 0; i < count; i++) {
        direction[i] = dml_rng_normal(rng);
        noise += direction[i] * direction[i];
        size += (double)grad[i] * grad[i];
    }
    for (size_t i = 0; i < count; i++) {
        direction[i] = direction[i] / sqrt(noise) + (size > 0 ? grad[i] / sqrt(size) : 0);
        total += direction[i] * direction[i];
    }
    for (size_t i = 0; i < count; i++)
        direction[i] /= sqrt(total);
}

/* Losses around a point: what the gradient says of the move, and what the loss does. */
struct move {
    double predicted, change; /* from low to high */
    double bend;              /* high - 2 middle + low */
};

/* Moves `values` by +-step along `direction`. What the gradient predicts is of exactly the moves
 * that float32 made. `x` is where the loss is taken. */
static struct move move(const struct trial *trial, float *values, size_t count, const float *x,
                        const float *grad, const double *direction, double step) {
    float *before = malloc(3 * count * sizeof *before);
    assert_non_null(before);
    float *low = before + count, *high = low + count;
    memcpy(before, values, count * sizeof *before);
    struct move move = {.bend = -2 * loss_at(trial, x, NULL)};
    for (size_t i = 0; i < count; i++) {
        low[i] = (float)(before[i] - step * direction[i]);
        high[i] = (float)(before[i] + step * direction[i]);
        move.predicted += grad[i] * ((double)high[i] - low[i]);
    }
    memcpy(values, high, count * sizeof *values);
    double at_high = loss_at(trial, x, NULL);
    memcpy(values, low, count * sizeof *values);
    double at_low = loss_at(trial, x, NULL);
    memcpy(values, before, count * sizeof *values);
    free(before);
    move.change = at_high - at_low;
    move.bend += at_high + at_low;
    return move;
}

enum verdict { RIGHT, WRONG, KINK };

/* Compares at two steps: where the change does not halve or the bend does not become a quarter
 * there is a kink in between, and the batch says nothing. `noise` is the rounding of the loss. */
static enum verdict verdict_of(const struct trial *trial, const char *what, float *values,
                               size_t count, const float *x, const float *grad, double noise,
                               struct dml_rng *rng) {
    double *direction = malloc(count * sizeof *direction);
    assert_non_null(direction);
    draw_direction(grad, count, direction, rng);
    /* Embeddings that are equal stay so, their distance has a kink at 0; and so have norms. */
    for (size_t i = 0; values == x && i < trial->n; i++) {
        memcpy(direction + i * trial->dim, direction + trial->twin[i] * trial->dim,
               trial->dim * sizeof *direction);
        if (trial->zero[i])
            memset(direction + i * trial->dim, 0, trial->dim * sizeof *direction);
    }
    double step = trial->subject->step;
    struct move full = move(trial, values, count, x, grad, direction, step);
    struct move half = move(trial, values, count, x, grad, direction, step / 2);
    free(direction);
    double slack = 2e-3 * fabs(full.predicted) + noise;
    if (fabs(full.change - 2 * half.change) > slack ||
        fabs(full.bend - 4 * half.bend) > slack / 2 + 8 * noise)
        return KINK;
    if (fabs(full.change - full.predicted) <= 2 * slack)
        return RIGHT;
    print_error("%s %s: the loss moves by %.9g, the gradient of the %s says %.9g\n",
                trial->subject->criterion, trial->subject->flags ? trial->subject->flags : "",
                full.change, what, full.predicted);
    return WRONG;
}

static enum verdict try_once(const struct subject *subject, enum shape shape, struct dml_rng *rng) {
    struct trial trial;
    open_trial(&trial, subject, shape, rng);
    float grad[MOST * MOST_DIM];
    double loss = loss_at(&trial, trial.x, grad), noise = 3e-7 * fabs(loss) + 1e-12;
    enum verdict verdict =
        verdict_of(&trial, "embeddings", trial.x, trial.n * trial.dim, trial.x, grad, noise, rng);
    const struct dml_criterion_parameter *parameter = &trial.parameter;
    if (verdict == RIGHT && parameter->values) {
        size_t count = parameter->dims[0] * parameter->dims[1];
        float *own = malloc(count * sizeof *own);
        assert_non_null(own);
        loss_at(&trial, trial.x, grad);
        memcpy(own, parameter->grad, count * sizeof *own);
        verdict =
            verdict_of(&trial, parameter->name, parameter->values, count, trial.x, own, noise, rng);
        free(own);
    }
    close_trial(&trial);
    return verdict;
}

/* Five batches of each shape that agree, of at most a hundred. One may disagree: two kinks within a
 * step can hide each other from both of the signs that verdict_of looks for. */
static int failures(const struct subject *subject) {
    int failed = 0;
    for (int shape = 0; shape < SHAPES; shape++) {
        int right = 0, wrong = 0;
        for (uint64_t attempt = 0; attempt < 100 && right < 5; attempt++) {
            struct dml_rng rng =
                dml_rng_make(seed, DML_PURPOSE_OTHER, stream * SHAPES + (uint64_t)shape, attempt);
            enum verdict verdict = try_once(subject, (enum shape)shape, &rng);
            right += verdict == RIGHT;
            wrong += verdict == WRONG;
        }
        if (right == 5 && wrong < 2)
            continue;
        print_error("%s %s on %s: %d batches agree, %d do not\n", subject->criterion,
                    subject->flags ? subject->flags : "", shape_names[shape], right, wrong);
        failed++;
    }
    stream++;
    return failed;
}

static bool learns_from(const struct dml_criterion *criterion, enum source what) {
    return what == USUAL ||
           (what == LISTS ? criterion->may_take != DML_TUPLES_NONE : criterion->takes_reference);
}

static void against_differences(enum source what) {
    int failed = 0;
    const struct dml_method *method;
    source = what;
    for (size_t i = 0; (method = dml_method_at(DML_CRITERION, i)); i++) {
        bool has_settings = false;
        const struct dml_criterion *criterion = (const struct dml_criterion *)method;
        if (has_constants(method->name) || !learns_from(criterion, what))
            continue;
        for (size_t s = 0; s < sizeof settings / sizeof *settings; s++)
            if (strcmp(settings[s].criterion, method->name) == 0) {
                failed += failures(&settings[s]);
                has_settings = true;
            }
        const struct subject usual = {method->name, NULL, 1e-4, CLASSES};
        failed += has_settings ? 0 : failures(&usual);
    }
    assert_int_equal(failed, 0);
}

static void usual_tuples(void **state) {
    (void)state;
    against_differences(USUAL);
}

static void pair_lists(void **state) {
    (void)state;
    against_differences(LISTS);
}

static void references(void **state) {
    (void)state;
    against_differences(REFERENCE);
}

int main(void) {
    const char *given = getenv("DML_TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("DML_TEST_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {cmocka_unit_test(usual_tuples), cmocka_unit_test(pair_lists),
                                       cmocka_unit_test(references)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
