#include "math/descent.h"
#include "support/fill.h"
#include "support/golden.h"
#include "support/trajectory2.h"
#include "train/criterion_optimiser.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* golden/trajectory2 (METHODS_NETWORKS.md): rates of every schedule, and a handful of numbers under
 * every optimiser with every schedule, clipped, frozen, averaged. Networks are in
 * support/trajectory2.c. */

enum { TENSORS = DML_CRITERION_PARAMETERS, GROUPS = 8 };

/* cases.json: named tensors in groups, whose gradients follow from their values. */
struct problem {
    char names[TENSORS][64], fill[TENSORS][80];
    size_t counts[TENSORS], group[TENSORS], count, total;
    double lr[GROUPS], decay[GROUPS];
    size_t groups;
};

static void read_problem(const cJSON *json, struct problem *p) {
    *p = (struct problem){0};
    const char *prefix = cJSON_GetObjectItem(json, "names_begin_with")->valuestring;
    const cJSON *item, *name, *groups = cJSON_GetObjectItem(json, "groups");
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(json, "parameters")) {
        assert_true(p->count < TENSORS);
        const cJSON *dim;
        size_t i = p->count++;
        p->counts[i] = 1;
        cJSON_ArrayForEach(dim, cJSON_GetArrayItem(item, 1)) p->counts[i] *= (size_t)dim->valueint;
        p->total += p->counts[i];
        p->group[i] = GROUPS;
        const char *own = cJSON_GetArrayItem(item, 0)->valuestring;
        snprintf(p->names[i], sizeof p->names[i], "%s", own);
        snprintf(p->fill[i], sizeof p->fill[i], "%s%s", prefix, own);
    }
    cJSON_ArrayForEach(item, groups) {
        assert_true(p->groups < GROUPS);
        p->lr[p->groups] = number(item, "lr");
        p->decay[p->groups] = number(item, "weight_decay");
        cJSON_ArrayForEach(
            name,
            cJSON_GetObjectItem(item, "of")) for (size_t i = 0; i < p->count;
                                                  i++) if (!strcmp(p->names[i], name->valuestring))
            p->group[i] = p->groups;
        p->groups++;
    }
    for (size_t i = 0; i < p->count; i++)
        assert_true(p->group[i] < GROUPS);
}

static bool is_proxies(const struct problem *p, size_t i) {
    return strcmp(p->names[i], "proxies") == 0;
}

/* The part of a network before its head: frozen at first where a case says so. */
static bool is_body(const struct problem *p, size_t i) {
    return !is_proxies(p, i) && strncmp(p->names[i], "last_linear", 11) != 0;
}

/* One run: tensors with their gradients, states and averages. */
struct run {
    const struct problem *problem;
    const cJSON *settings;
    struct dml_criterion_optimiser tensors;
    float *averages[TENSORS];
    struct dml_run_schedule schedule;
    struct opened_method optimiser, schedule_method;
    struct dml_schedule_flags flags;
    const struct dml_optimiser *method;
    const cJSON *observed; /* what plateau looks at, NULL: nothing */
};

static void open_run(struct run *r, const struct problem *p, const cJSON *settings,
                     const cJSON *optimisers, const cJSON *schedules) {
    *r = (struct run){.problem = p, .settings = settings};
    const char *name = cJSON_GetObjectItem(settings, "optimiser")->valuestring;
    r->optimiser = open_golden_optimiser(cJSON_GetObjectItem(optimisers, name));
    r->method = (const struct dml_optimiser *)r->optimiser.method;
    name = cJSON_GetObjectItem(settings, "schedule")->valuestring;
    const cJSON *parameters =
        cJSON_GetObjectItem(cJSON_GetObjectItem(schedules, name), "parameters");
    r->schedule_method = open_golden_schedule(parameters, &r->flags, &r->schedule);
    r->observed = cJSON_GetObjectItem(parameters, "metric");
    r->tensors.count = p->count;
    for (size_t i = 0; i < p->count; i++) {
        struct dml_criterion_parameter *t = &r->tensors.parameters[i];
        *t = (struct dml_criterion_parameter){.name = p->names[i],
                                              .dims = {p->counts[i], 1},
                                              .values = calloc(p->counts[i], sizeof(float)),
                                              .grad = calloc(p->counts[i], sizeof(float))};
        char start[96];
        snprintf(start, sizeof start, "%s.start", p->fill[i]);
        fill_signed(start, 1, t->values, p->counts[i]);
        for (size_t s = 0; s < r->method->states; s++)
            r->tensors.states[i][s] = calloc(p->counts[i], sizeof(float));
        r->averages[i] = calloc(p->counts[i], sizeof(float));
    }
}

static void close_run(struct run *r) {
    for (size_t i = 0; i < r->tensors.count; i++) {
        free(r->tensors.parameters[i].values);
        free(r->tensors.parameters[i].grad);
        free(r->averages[i]);
    }
    dml_criterion_optimiser_close(&r->tensors);
    close_method(&r->optimiser);
    close_method(&r->schedule_method);
}

static void set_gradients(struct run *r, size_t step) {
    const struct problem *p = r->problem;
    double scale = setting(r->settings, "gradient_scale", 1);
    for (size_t i = 0; i < p->count; i++) {
        char curvature[96], target[96], noise[96];
        snprintf(curvature, sizeof curvature, "%s.curvature", p->fill[i]);
        snprintf(target, sizeof target, "%s.target", p->fill[i]);
        snprintf(noise, sizeof noise, "%s.noise%zu", p->fill[i], step);
        for (size_t j = 0; j < p->counts[i]; j++) {
            double c = 0.5 + fill_uniform(curvature, j), n = 2 * fill_uniform(noise, j) - 1;
            double distance =
                r->tensors.parameters[i].values[j] - (2 * fill_uniform(target, j) - 1);
            r->tensors.parameters[i].grad[j] = (float)(scale * (c * distance + 0.3 * n));
        }
    }
}

static void clip(struct run *r, size_t step) {
    const struct problem *p = r->problem;
    double largest = setting(r->settings, "clip_norm", 0);
    double limit = setting(r->settings, "clip_value", 0), squares = 0, most = 0;
    for (size_t i = 0; i < p->count; i++)
        if (!is_proxies(p, i))
            dml_gradient_measure(r->tensors.parameters[i].grad, p->counts[i], &squares, &most);
    const cJSON *norms = cJSON_GetObjectItem(r->settings, "norm_before");
    if (largest > 0 && norms) {
        double expected = cJSON_GetArrayItem(norms, (int)step)->valuedouble;
        assert_true(fabs(sqrt(squares) - expected) <= 1e-6 * expected);
    }
    for (size_t i = 0; i < p->count && largest > 0; i++)
        if (!is_proxies(p, i))
            dml_gradient_clip(r->tensors.parameters[i].grad, p->counts[i],
                              dml_gradient_scale(sqrt(squares), largest), INFINITY);
    if (limit > 0)
        dml_criterion_optimiser_clip(&r->tensors, limit);
}

/* Rates of the tensors in a step; a frozen one has no update, as a group that starts later. */
static bool set_update(const struct run *r, size_t i, size_t step, struct dml_update *update) {
    const struct problem *p = r->problem;
    size_t start = (size_t)setting(r->settings, "frozen_for_the_first", 0);
    bool zero = step < (size_t)setting(r->settings, "lr_0_for_the_first", 0);
    double lr = p->lr[p->group[i]];
    const cJSON *layers = cJSON_GetObjectItem(r->settings, "layers");
    if (layers && cJSON_GetObjectItem(layers, p->names[i])) /* one rate for the whole network */
        lr = p->lr[0] * pow(number(r->settings, "layer_decay"),
                            number(r->settings, "of") - number(layers, p->names[i]));
    start = is_body(p, i) ? start : 0;
    *update = (struct dml_update){
        .lr = zero && is_body(p, i) ? 0 : dml_schedule_rate(&r->schedule, lr, step),
        .decay = p->decay[p->group[i]],
        .momentum = dml_schedule_momentum(&r->schedule, step),
        .step = step + 1 - start};
    return step >= start;
}

static void take_golden_step(struct run *r, size_t step) {
    struct dml_update updates[TENSORS];
    set_gradients(r, step);
    clip(r, step);
    double decay = setting(r->settings, "ema", 0);
    const cJSON *starts = cJSON_GetObjectItem(r->settings, "starts");
    bool after = starts && strstr(starts->valuestring, "after");
    for (size_t i = 0; i < r->tensors.count; i++) {
        const struct dml_criterion_parameter *t = &r->tensors.parameters[i];
        if (step == 0)
            dml_moving_average(r->averages[i], t->values, t->dims[0], 0);
        if (set_update(r, i, step, &updates[i]))
            r->method->update(r->optimiser.options, &updates[i], t->values, t->grad,
                              r->tensors.states[i], t->dims[0]);
        if (decay > 0)
            dml_moving_average(r->averages[i], t->values, t->dims[0],
                               step == 0 && after ? 0 : decay);
    }
    if (r->observed)
        observe_golden(&r->schedule, r->observed, step);
}

/* The largest error of a row against what is expected, relative to the largest number in it. */
static double row_error(float *const *values, const struct problem *p, const double *expected) {
    double worst = 0, size = 0;
    for (size_t i = 0, at = 0; i < p->count; i++)
        for (size_t j = 0; j < p->counts[i]; j++, at++) {
            worst = fmax(worst, fabs(values[i][j] - expected[at]));
            size = fmax(size, fabs(expected[at]));
        }
    return worst / size;
}

static double check_run(const struct problem *p, const cJSON *settings, const cJSON *optimisers,
                        const cJSON *schedules) {
    struct run r;
    open_run(&r, p, settings, optimisers, schedules);
    const char *file = cJSON_GetObjectItem(settings, "file")->valuestring;
    const cJSON *average = cJSON_GetObjectItem(settings, "average");
    size_t count, average_count = 0;
    double *expected = golden_doubles(&count, "trajectory2/optimisers/%s", file), *averages = NULL;
    if (average)
        averages =
            golden_doubles(&average_count, "trajectory2/optimisers/%s", average->valuestring);
    assert_true(count % p->total == 0 && (!average || average_count % p->total == 0));
    float *values[TENSORS];
    for (size_t i = 0; i < p->count; i++)
        values[i] = r.tensors.parameters[i].values;
    double worst = 0;
    for (size_t step = 0; step < count / p->total; step++) {
        take_golden_step(&r, step);
        double error = row_error(values, p, expected + step * p->total);
        /* The averages' file has a row per step, or the last one alone. */
        size_t rows = average_count / p->total, first = count / p->total - rows;
        if (average && step >= first)
            error = fmax(error, row_error(r.averages, p, averages + (step - first) * p->total));
        if (!(error <= 1e-6))
            fail_msg("%s, step %zu: off by %.3g", file, step, error);
        worst = fmax(worst, error);
    }
    free(expected);
    free(averages);
    close_run(&r);
    return worst;
}

static size_t cases;

static void optimisers(void **state) {
    (void)state;
    cJSON *json = golden_json("trajectory2/optimisers/cases.json"), *item;
    cJSON *schedules = golden_json("trajectory2/schedules.json");
    struct problem problem;
    read_problem(json, &problem);
    double worst = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(json, "cases")) {
        worst = fmax(worst, check_run(&problem, item, cJSON_GetObjectItem(json, "optimisers"),
                                      cJSON_GetObjectItem(schedules, "schedules")));
        cases++;
    }
    printf("optimisers: off by %.2g\n", worst);
    cJSON_Delete(json);
    cJSON_Delete(schedules);
}

static void schedules(void **state) {
    (void)state;
    cJSON *json = golden_json("trajectory2/schedules.json"), *item, *row;
    const cJSON *base = cJSON_GetObjectItem(json, "base_lr");
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(json, "schedules")) {
        struct dml_schedule_flags flags;
        struct dml_run_schedule schedule;
        const cJSON *parameters = cJSON_GetObjectItem(item, "parameters");
        const cJSON *momentum = cJSON_GetObjectItem(item, "momentum_or_beta1");
        const cJSON *observed = cJSON_GetObjectItem(parameters, "metric");
        struct opened_method method = open_golden_schedule(parameters, &flags, &schedule);
        uint64_t step = 0;
        cJSON_ArrayForEach(row, cJSON_GetObjectItem(item, "lr")) {
            for (int g = 0; g < cJSON_GetArraySize(row); g++) {
                double expected = cJSON_GetArrayItem(row, g)->valuedouble;
                double lr = cJSON_GetArrayItem(base, g)->valuedouble;
                double rate = dml_schedule_rate(&schedule, lr, step);
                if (!(fabs(rate - expected) <= 1e-12 * lr))
                    fail_msg("%s, step %d, group %d: rate %.15g, expected %.15g", item->string,
                             (int)step, g, rate, expected);
            }
            double own = dml_schedule_momentum(&schedule, step);
            if (momentum) {
                const cJSON *expected = cJSON_GetArrayItem(momentum, (int)step);
                expected = cJSON_IsArray(expected) ? cJSON_GetArrayItem(expected, 0) : expected;
                assert_true(fabs(own - expected->valuedouble) <= 1e-12);
            } else {
                assert_true(isnan(own));
            }
            if (observed)
                observe_golden(&schedule, observed, step);
            step++;
        }
        close_method(&method);
        cases++;
    }
    cJSON_Delete(json);
}

static void networks(void **state) {
    (void)state;
    size_t count, left = 0;
    char **names = golden_cases("trajectory2/networks", &count);
    for (size_t i = 0; i < count; i++)
        if (check_golden_network(names[i]))
            cases++;
        else
            left++;
    golden_free_names(names, count);
    if (left)
        printf("left out: %zu networks that there is no backbone for\n", left);
}

static int print_cases(void **state) {
    (void)state;
    printf("trajectory2: %zu cases\n", cases);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(schedules), cmocka_unit_test(optimisers),
                                       cmocka_unit_test(networks)};
    return cmocka_run_group_tests(tests, NULL, print_cases);
}
