#ifndef DML_CRITERIA_CLASS_BANK_H
#define DML_CRITERIA_CLASS_BANK_H

#include "criteria/class_scores.h"
#include "dml/optimisers.h"

/* The vectors of a criterion's classes where something other than the processor, such as a GPU,
 * holds them, with their gradients and the optimiser's states: for so many classes that the
 * processor would not keep up. The results are the processor's but for rounding. An
 * implementation's struct starts with this one. */
struct dml_class_bank {
    const struct dml_class_bank_ops *ops;
};

/* What it holds, each (classes, dim); the optimiser's further states follow the first. */
enum dml_bank_array { DML_BANK_VALUES, DML_BANK_GRAD, DML_BANK_STATE };

/* Proxy anchor's loss: src/criteria/proxyanchor.c. */
struct dml_bank_anchors {
    double alpha, margin, share, share_all; /* of a class that is in the batch, of any class */
};

struct dml_class_bank_ops {
    void (*close)(struct dml_class_bank *bank);
    enum dml_status (*read)(struct dml_class_bank *bank, int array, float *out);
    enum dml_status (*write)(struct dml_class_bank *bank, int array, const float *values);
    /* Gradients times `factor`, then clipped to [-limit, limit]. */
    enum dml_status (*scale)(struct dml_class_bank *bank, double factor, double limit);
    enum dml_status (*update)(struct dml_class_bank *bank, const struct dml_optimiser *optimiser,
                              const void *options, const struct dml_update *update);

    /* A step: first `begin`, then `anchors` alone, or the others in this order. */

    /* Takes x (n, dim) and labels (n); gives the vectors of the samples' classes, own (n, dim). */
    enum dml_status (*begin)(struct dml_class_bank *bank, const float *x, const int32_t *labels,
                             size_t n, float *own);
    /* The largest cosine of each sample but that of its own class; left out where a bound is known.
     */
    enum dml_status (*largest)(struct dml_class_bank *bank, const struct dml_class_rule *rule,
                               double *most);
    /* With e_ij = exp(scale c_ij - shift_i), 0 for a sample's own class: sums (n) of e_ij, and
     * pulls (n, dim), the sum of e_ij u_j over the classes where the clamp leaves a gradient. */
    enum dml_status (*exponentials)(struct dml_class_bank *bank, const struct dml_class_rule *rule,
                                    const float *shift, double *sums, float *pulls);
    /* From dL/dc_ij = factor_i e_ij, and factor_i pull_i for own classes: the gradients of the
     * vectors, and along_i times a sample's own vector added to its gradient. */
    enum dml_status (*gradients)(struct dml_class_bank *bank, const struct dml_class_rule *rule,
                                 const float *factor, const float *pull, const float *along);

    /* The loss, dL/dx into grad (n, dim) with x of length 1, and the gradients of the vectors. */
    enum dml_status (*anchors)(struct dml_class_bank *bank, const struct dml_bank_anchors *anchors,
                               float *grad, double *loss);
};

/* Who makes them. */
struct dml_class_banks {
    /* *out is NULL, with DML_OK, where the processor is to hold the vectors: for few classes, or
     * where there is no room. */
    enum dml_status (*open)(void *data, size_t classes, size_t dim, struct dml_class_bank **out);
    void *data;
};

/* Moves a criterion's initial vectors to a bank, where `context` offers one. On failure the state
 * is destroyed with `destroy`. */
enum dml_status dml_class_bank_place(struct dml_class_scores *scores,
                                     const struct dml_criterion_context *context,
                                     void (*destroy)(void *state));

/* dml_class_scores_step with the vectors in scores->bank. */
enum dml_status dml_class_bank_step(struct dml_class_scores *scores,
                                    const struct dml_class_rule *rule, const float *x,
                                    const int32_t *labels, size_t n, float *grad, double *loss);

#endif
