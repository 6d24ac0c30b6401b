/* A criterion and a miner in a program of your own: embeddings and labels in, loss and gradient
 * out. Here gradient descent moves eight points by hand until their classes are apart.
 *
 *     cc criterion_in_your_pipeline.c $(pkg-config --cflags --libs dml-core) */
#include <dml/core.h>

#include <stdio.h>

enum { N = 8, DIM = 2, STEPS = 100 };

static float embeddings[N * DIM] = {0.9f, 0.1f, 0.2f, 0.8f, -0.7f, 0.4f, 0.3f, -0.9f,
                                    0.5f, 0.6f, 0.1f, 0.7f, -0.2f, 0.9f, 0.8f, -0.3f};
static const int32_t labels[N] = {0, 1, 2, 3, 0, 1, 2, 3};
static float grad[N * DIM];

/* The ten lines: open a miner and a criterion once, then mine and compute for each batch. */
static enum dml_status train(struct dml_loss *first, struct dml_loss *last) {
    struct dml_batch batch = {.n = N, .dim = DIM, .embeddings = embeddings, .labels = labels};
    struct dml_criterion_context context = {.dim = DIM, .classes = 4, .miner = "softhard"};
    struct dml_miner_context mining = {.dim = DIM, .margin = 0.5};
    struct dml_objective *triplet = NULL;
    struct dml_mining *softhard = NULL;
    struct dml_tuples tuples = {0};
    enum dml_status status =
        dml_objective_open("triplet", "--loss_triplet_margin 0.5", &context, &triplet);
    if (!status)
        status = dml_mining_open("softhard", NULL, &mining, &softhard);
    for (unsigned step = 0; !status && step < STEPS; step++) {
        struct dml_rng rng = dml_rng_make(0, DML_PURPOSE_MINER, step, 0);
        status = dml_mining_compute(softhard, &batch, &rng, &tuples, NULL);
        if (!status)
            status = dml_objective_compute(triplet, &batch, &tuples, &rng, grad, last);
        for (int i = 0; !status && i < N * DIM; i++)
            embeddings[i] -= 0.2f * grad[i]; /* yours: here the gradient flows into your network */
        if (step == 0)
            *first = *last;
    }
    dml_tuples_free(&tuples);
    dml_mining_free(softhard);
    dml_objective_free(triplet);
    return status;
}

int main(void) {
    struct dml_loss first, last;
    if (train(&first, &last)) {
        fprintf(stderr, "%s\n", dml_error());
        return 1;
    }
    printf("loss %.4f with %zu of %zu triplets active, then %.4f with %zu\n", first.value,
           first.active, first.tuples, last.value, last.active);
    return last.value < first.value ? 0 : 1;
}
