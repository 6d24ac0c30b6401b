/* golden/sequences: batches in order, for criteria that remember: what they compute with each, and
 * what they hold at the end. */
#include "dml/dml.h"

#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 1e-5

struct sequence {
    const char *name;
    cJSON *json;
    size_t steps, n, dim;
    float *embeddings;          /* (steps, n, dim) */
    int32_t *labels;            /* (steps, n) */
    double *losses, *gradients; /* (steps), (steps, n, dim) */
};

static void read_sequence(struct sequence *s, const char *name) {
    size_t values, labels;
    s->name = name;
    s->json = golden_json("sequences/%s/case.json", name);
    s->embeddings = golden_floats(&values, "sequences/%s/embeddings.npy", name);
    s->labels = golden_ints(&labels, "sequences/%s/labels.npy", name);
    s->losses = golden_doubles(&s->steps, "sequences/%s/losses.npy", name);
    s->gradients = golden_doubles(NULL, "sequences/%s/grad_embeddings.npy", name);
    s->n = labels / s->steps;
    s->dim = values / labels;
}

static void free_sequence(struct sequence *s) {
    free(s->embeddings);
    free(s->labels);
    free(s->losses);
    free(s->gradients);
    cJSON_Delete(s->json);
}

static struct dml_objective *open_objective(const struct sequence *s) {
    char flags[600];
    golden_flags(cJSON_GetObjectItem(s->json, "flags"), NULL, flags, sizeof flags);
    struct dml_criterion_context context = {
        .dim = s->dim, .classes = (size_t)cJSON_GetObjectItem(s->json, "n_classes")->valuedouble};
    struct dml_objective *objective;
    assert_ok(dml_objective_open(cJSON_GetObjectItem(s->json, "loss")->valuestring, flags, &context,
                                 &objective));
    const cJSON *size = cJSON_GetObjectItem(s->json, "xbm_size");
    if (cJSON_IsNumber(size))
        assert_ok(dml_objective_remember(objective, (size_t)size->valuedouble));
    return objective;
}

static int wrong(const char *name, const char *what, size_t step, double error) {
    if (error <= TOLERANCE)
        return 0;
    print_error("%s: %s of step %zu is off by %.3g\n", name, what, step, error);
    return 1;
}

static int run_step(const struct sequence *s, struct dml_objective *objective, size_t step) {
    const size_t size = s->n * s->dim;
    float *grad = malloc(size * sizeof *grad);
    assert_non_null(grad);
    const struct dml_batch batch = {.n = s->n,
                                    .dim = s->dim,
                                    .embeddings = s->embeddings + step * size,
                                    .labels = s->labels + step * s->n};
    struct dml_loss loss;
    assert_ok(dml_objective_compute(objective, &batch, NULL, NULL, grad, &loss));
    int bad = wrong(s->name, "the loss", step,
                    fabs(loss.value - s->losses[step]) / fmax(fabs(s->losses[step]), 1e-30));
    bad += wrong(s->name, "the gradient", step,
                 relative_error(grad, s->gradients + step * size, size, 1e-30));
    free(grad);
    return bad;
}

/* Values in rows of a memory that have been written: what the others hold means nothing. */
static size_t written(const struct sequence *s, const struct dml_criterion_buffer *buffer) {
    bool memory = strncmp(buffer->name, "memory", 6) == 0;
    size_t stored = s->steps * s->n, rows = buffer->dims[0];
    return (memory && stored < rows ? stored : rows) * buffer->dims[1];
}

/* The buffer called `name` against its file, where there is one. */
static int compare_buffer(const struct sequence *s, const struct dml_criterion_buffer *buffer) {
    char path[400];
    size_t count, values = written(s, buffer);
    snprintf(path, sizeof path, "sequences/%s/%s.npy", s->name, buffer->name);
    if (!golden_exists(path))
        return 0;
    if (buffer->floats) {
        double *expected = golden_doubles(&count, "%s", path);
        assert_true(count >= values);
        int bad = wrong(s->name, buffer->name, s->steps,
                        relative_error(buffer->floats, expected, values, 1e-30));
        free(expected);
        return bad;
    }
    int32_t *expected = golden_ints(&count, "%s", path);
    assert_true(count >= values);
    int bad = wrong(s->name, buffer->name, s->steps,
                    memcmp(expected, buffer->ints, values * sizeof *expected) != 0);
    free(expected);
    return bad;
}

/* Half way the objective is replaced by a fresh one that gets the buffers, as a resumed run does.
 */
static struct dml_objective *resume(const struct sequence *s, struct dml_objective *objective) {
    struct dml_objective *fresh = open_objective(s);
    struct dml_criterion_buffer from[8], to[8];
    size_t count = dml_objective_buffers(objective, from, 8);
    assert_int_equal(dml_objective_buffers(fresh, to, 8), count);
    for (size_t i = 0; i < count; i++) {
        size_t values = from[i].dims[0] * from[i].dims[1];
        assert_string_equal(from[i].name, to[i].name);
        if (from[i].floats)
            memcpy(to[i].floats, from[i].floats, values * sizeof(float));
        else
            memcpy(to[i].ints, from[i].ints, values * sizeof(int32_t));
    }
    dml_objective_free(objective);
    return fresh;
}

static int run(const char *name) {
    struct sequence s;
    read_sequence(&s, name);
    struct dml_objective *objective = open_objective(&s);
    int bad = 0;
    for (size_t step = 0; step < s.steps; step++) {
        if (step == s.steps / 2)
            objective = resume(&s, objective);
        bad += run_step(&s, objective, step);
    }
    struct dml_criterion_buffer buffers[8];
    size_t count = dml_objective_buffers(objective, buffers, 8);
    for (size_t i = 0; i < count; i++)
        bad += compare_buffer(&s, &buffers[i]);
    dml_objective_free(objective);
    free_sequence(&s);
    return bad;
}

static void every_sequence(void **state) {
    (void)state;
    size_t count;
    int bad = 0;
    char **names = golden_cases("sequences", &count);
    for (size_t i = 0; i < count; i++)
        bad += run(names[i]);
    golden_free_names(names, count);
    assert_int_equal(bad, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_sequence)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
