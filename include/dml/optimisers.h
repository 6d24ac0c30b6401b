#ifndef DML_OPTIMISERS_H
#define DML_OPTIMISERS_H

#include "dml/method.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The most floats that an optimiser keeps per parameter. */
enum { DML_OPTIMISER_STATES = 4 };

/* How parameters that share a setting change in one step. */
struct dml_update {
    double lr, decay;
    double momentum; /* of this step, set by a schedule (for Adam and its kin: beta1); NAN: the
                        optimiser's own */
    uint64_t step;   /* how many updates these parameters have had, this one included */
};

/* An optimiser, with the arithmetic of torch.optim. */
struct dml_optimiser {
    struct dml_method method;
    size_t states; /* floats kept per parameter, 0 before the first update */

    /* Updates `n` values from their gradients; states[0..states-1] have n floats each. `options` is
     * the struct of the method's table. Each value's result depends on its own inputs alone, and
     * where value, gradient and states are 0 (padding between tensors), they stay 0. Runs on all
     * cores. */
    void (*update)(const void *options, const struct dml_update *update, float *values,
                   const float *grad, float *const *states, size_t n);
};

#ifdef __cplusplus
}
#endif
#endif
