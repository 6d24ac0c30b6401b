#ifndef DML_MATH_OPTIMISE_H
#define DML_MATH_OPTIMISE_H

#include <stddef.h>
#include <stdint.h>

/* Adam (Kingma and Ba 2015) and SGD with momentum, with the arithmetic of torch.optim. */
enum dml_optimiser_kind { DML_ADAM, DML_SGD };

/* One learning-rate step, for the parameters of a network or of a criterion. */
struct dml_optimiser_step {
    enum dml_optimiser_kind kind;
    double lr, head_lr;           /* head_lr < 0: the network's head uses lr */
    double decay;                 /* L2, added to the gradient */
    double beta1, beta2, epsilon; /* Adam */
    double momentum;              /* SGD */
    int64_t step;                 /* 1 for the first */
};

/* Updates `n` values with learning rate step->lr (head_lr is the caller's business). `moment1` and
 * `moment2` (n each) start as 0 and belong to these values; SGD keeps its momentum in moment1
 * and does not touch moment2, which may then be NULL. Runs on all cores; each value's result
 * depends on its own inputs alone. */
void dml_optimiser_update(const struct dml_optimiser_step *step, float *values, const float *grad,
                          float *moment1, float *moment2, size_t n);

#endif
