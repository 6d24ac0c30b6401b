#include "dml/rng.h"
#include "nn/graph.h"

#include <math.h>

/* U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for the weights and biases of both
 * convolutions and linear layers. */
static void fill_uniform(struct dml_rng *rng, size_t fan_in, float *values, size_t count) {
    double bound = 1.0 / sqrt((double)fan_in);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)((2.0 * dml_rng_uniform(rng) - 1.0) * bound);
}

/* Normal with mean 0; what falls beyond `cut` standard deviations is drawn again. */
static void fill_normal(struct dml_rng *rng, double deviation, double cut, float *values,
                        size_t count) {
    double drawn[4096];
    const size_t most = sizeof drawn / sizeof *drawn;
    for (size_t done = 0; done < count;) {
        size_t n = count - done < most ? count - done : most;
        dml_rng_normals(rng, drawn, n);
        for (size_t i = 0; i < n; i++)
            if (fabs(drawn[i]) <= cut)
                values[done++] = (float)(drawn[i] * deviation);
    }
}

/* Subtracts from the other vector its component along `vector`, which has length 1. */
static void remove_component(const float *vector, float *other, size_t length, size_t step) {
    double product = 0;
    for (size_t k = 0; k < length; k++)
        product += (double)vector[k * step] * other[k * step];
    for (size_t k = 0; k < length; k++)
        other[k * step] -= (float)(product * vector[k * step]);
}

/* Orthonormal rows of a matrix (rows, columns), or columns where there are more rows: normal values
 * orthogonalised by the Gram-Schmidt process, which is uniform over all such matrices, as the QR
 * decomposition of PyTorch's orthogonal_ is. Each vector goes through it twice, so that rounding
 * errors do not build up. */
static void fill_orthogonal(struct dml_rng *rng, size_t rows, size_t columns, float *values) {
    size_t count = rows < columns ? rows : columns, length = rows < columns ? columns : rows;
    size_t stride = rows < columns ? columns : 1, step = rows < columns ? 1 : columns;
    fill_normal(rng, 1.0, INFINITY, values, rows * columns);
    for (size_t i = 0; i < count; i++) {
        float *own = values + i * stride;
        for (size_t j = 0; j < 2 * i; j++)
            remove_component(values + j % i * stride, own, length, step);
        double squares = 0;
        for (size_t k = 0; k < length; k++)
            squares += (double)own[k * step] * own[k * step];
        float scale = (float)(1.0 / sqrt(squares));
        for (size_t k = 0; k < length; k++)
            own[k * step] *= scale;
    }
}

static void fill_constant(float value, float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        values[i] = value;
}

void dml_graph_init_param(const struct dml_graph *graph, int index, uint64_t seed, float *values) {
    const struct dml_graph_param *param = &graph->params[index];
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_INIT, (uint64_t)index, 0);
    size_t count = param->count, out = (size_t)param->dims[0];
    /* The bias of a layer shares the fan-in of its weight, which comes first. */
    const struct dml_graph_param *weight = &graph->params[graph->nodes[param->node].first_param];
    size_t fan_in = weight->count / (size_t)weight->dims[0];
    bool is_conv = graph->nodes[param->node].op == DML_OP_CONV;
    bool head = param->head && graph->head_start != DML_HEAD_PYTORCH;
    bool transformer = graph->weight_init == DML_INIT_TRANSFORMER && !is_conv && !param->head;

    switch (param->role) {
    case DML_ROLE_NORM_WEIGHT:
    case DML_ROLE_RUNNING_VAR:
        fill_constant(1.0f, values, count);
        return;
    case DML_ROLE_NORM_BIAS:
    case DML_ROLE_RUNNING_MEAN:
        fill_constant(0.0f, values, count);
        return;
    case DML_ROLE_POOL_POWER:
        fill_constant(3.0f, values, count);
        return;
    case DML_ROLE_CLASS_TOKEN:
    case DML_ROLE_DISTILLATION_TOKEN:
    case DML_ROLE_REGISTERS:
        fill_normal(&rng, graph->nodes[param->node].token_deviation, INFINITY, values, count);
        return;
    case DML_ROLE_POSITIONS:
        fill_normal(&rng, 0.02, INFINITY, values, count);
        return;
    case DML_ROLE_LAYER_SCALE:
        fill_constant(1e-5f, values, count);
        return;
    case DML_ROLE_BIAS:
        if (transformer || head)
            fill_constant(0.0f, values, count);
        else
            fill_uniform(&rng, fan_in, values, count);
        return;
    case DML_ROLE_WEIGHT:
        if (head && graph->head_start == DML_HEAD_ORTHOGONAL)
            fill_orthogonal(&rng, out, count / out, values);
        else if (head) /* fan_out of a linear layer is its outputs */
            fill_normal(&rng, sqrt(2.0 / (double)out), INFINITY, values, count);
        else if (transformer)
            fill_normal(&rng, 0.02, INFINITY, values, count);
        else if (!is_conv || graph->weight_init == DML_INIT_UNIFORM ||
                 graph->weight_init == DML_INIT_TRANSFORMER)
            fill_uniform(&rng, fan_in, values, count);
        else if (graph->weight_init == DML_INIT_TRUNCATED_NORMAL)
            fill_normal(&rng, 0.01, 2.0, values, count);
        else
            fill_normal(&rng, sqrt(2.0 / ((double)out * (double)param->dims[2] * param->dims[3])),
                        INFINITY, values, count);
        return;
    }
}
