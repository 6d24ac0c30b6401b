#include "support/golden_network.h"

#include "support/fill.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void golden_case_open(struct golden_case *s, const char *arch, int dim, int size, size_t batch,
                      struct how how) {
    *s = (struct golden_case){.batch = batch};
    assert_ok(dml_graph_build(arch, dim, size, &s->graph));
    s->dim = (size_t)s->graph->embed_dim;
    struct dml_network_options options = {
        .precision = how.precision, .micro_batch = how.micro, .batch_hint = batch};
    assert_ok(dml_network_open(tested(), s->graph, &options, &s->network));
    fill_network(s->network);
    size_t count = batch * 3 * (size_t)(size * size);
    s->input = malloc(count * sizeof *s->input);
    s->embeddings = malloc(batch * s->dim * sizeof *s->embeddings);
    assert_true(s->input && s->embeddings);
    fill_signed("input", 2.0, s->input, count);
}

void golden_case_close(struct golden_case *s) {
    dml_network_close(s->network);
    free(s->input);
    free(s->embeddings);
}

struct dml_images golden_case_images(const struct golden_case *s) {
    const struct dml_node *input = &s->graph->nodes[0];
    return (struct dml_images){
        .n = s->batch, .height = input->height, .width = input->width, .input = s->input};
}

void golden_case_backward(struct golden_case *s) {
    float *grad = malloc(s->batch * s->dim * sizeof *grad);
    assert_non_null(grad);
    fill_signed("output_weight", 1.0, grad, s->batch * s->dim);
    assert_ok(dml_network_backward(s->network, grad));
    free(grad);
}

struct errors golden_embedding_errors(const struct golden_case *s, const double *expected) {
    struct errors errors = {0, 1};
    for (size_t i = 0; i < s->batch; i++) {
        double product = 0, own = 0, other = 0;
        for (size_t k = i * s->dim; k < (i + 1) * s->dim; k++) {
            double got = s->embeddings[k];
            errors.component = fmax(errors.component, fabs(got - expected[k]));
            product += got * expected[k];
            own += got * got;
            other += expected[k] * expected[k];
        }
        errors.cosine = fmin(errors.cosine, product / sqrt(own * other));
    }
    return errors;
}

double golden_power_sum(const struct golden_case *s, int param, enum dml_slot slot, int power) {
    size_t count = s->graph->params[param].count;
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    assert_ok(dml_network_read(s->network, param, slot, values));
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += pow(fabs(values[i]), power);
    free(values);
    return sum;
}

double golden_check_norms(const struct golden_case *s, const cJSON *norms, double tolerance) {
    const cJSON *entry;
    assert_non_null(norms);
    double largest = 0, worst = 0;
    cJSON_ArrayForEach(entry, norms) largest = fmax(largest, entry->valuedouble);
    int seen = 0, beyond = 0;
    for (int p = 0; p < s->graph->param_count; p++) {
        const char *name = s->graph->params[p].name;
        const cJSON *expected = cJSON_GetObjectItem(norms, name);
        if (!expected)
            continue;
        seen++;
        double norm = sqrt(golden_power_sum(s, p, DML_SLOT_GRAD, 2)), right = expected->valuedouble;
        double error = fabs(norm - right) / fmax(right, largest / 1000);
        worst = fmax(worst, error);
        beyond += !(error <= tolerance);
        if (!(error <= 10 * tolerance) || 50 * beyond > s->graph->param_count)
            fail_msg("gradient of %s: norm %g, expected %g", name, norm, right);
    }
    assert_int_equal(seen, cJSON_GetArraySize(norms));
    return worst;
}

double golden_norms_error(const struct golden_case *s, const cJSON *norms) {
    double difference = 0, size = 0;
    for (int p = 0; p < s->graph->param_count; p++) {
        const cJSON *expected = cJSON_GetObjectItem(norms, s->graph->params[p].name);
        if (!expected)
            continue;
        double error = sqrt(golden_power_sum(s, p, DML_SLOT_GRAD, 2)) - expected->valuedouble;
        difference += error * error;
        size += expected->valuedouble * expected->valuedouble;
    }
    assert_true(size > 0);
    return sqrt(difference / size);
}

void golden_check_names(const struct dml_graph *graph, const cJSON *expected) {
    assert_int_equal(graph->param_count, cJSON_GetArraySize(expected));
    int p = 0;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, expected) {
        const struct dml_graph_param *param = &graph->params[p++];
        assert_string_equal(param->name, cJSON_GetArrayItem(entry, 0)->valuestring);
        const cJSON *dims = cJSON_GetArrayItem(entry, 1);
        assert_int_equal(param->dim_count, cJSON_GetArraySize(dims));
        for (int d = 0; d < param->dim_count; d++)
            assert_int_equal(param->dims[d], cJSON_GetArrayItem(dims, d)->valueint);
    }
}
