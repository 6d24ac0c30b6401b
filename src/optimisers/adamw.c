/* AdamW. Loshchilov and Hutter 2019, "Decoupled weight decay regularization".
 *
 *     p *= 1 - lr decay,  then a step of Adam without decay */
#include "optimisers/adam.h"

static void update(const void *options, const struct dml_update *u, float *values,
                   const float *grad, float *const *states, size_t n) {
    dml_adam_update(options, u, 0, u->lr * u->decay, values, grad, states[0], states[1], n);
}

const struct dml_optimiser dml_optimiser_adamw = {
    .method = {.name = "adamw",
               .summary = "Adam with decay decoupled from the gradient",
               .paper = "Loshchilov, Hutter 2019, Decoupled weight decay regularization",
               .params = &dml_adam_params},
    .states = 2,
    .update = update,
};
