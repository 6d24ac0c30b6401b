#ifndef DML_CRITERIA_H
#define DML_CRITERIA_H

#include "dml/method.h"
#include "dml/rng.h"
#include "dml/tuples.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dml_class_bank;
struct dml_class_banks;

/* What a criterion may need to know about the run besides its own options. */
struct dml_criterion_context {
    size_t dim;        /* of the embeddings, 1 or more; snr: 2 or more */
    size_t classes;    /* training classes, 1 or more; labels are 0..classes-1 */
    double lr;         /* of the network, >= 0: proxynca and softtriplet use a multiple of it */
    uint64_t seed;     /* for initial values of learnable parameters */
    const char *miner; /* name, or NULL: snr drops its regulariser with "distance" */
    const char *arch;  /* name, or NULL: npair rescales the batch of a "bninception" */
    /* Who may hold class weights and proxies in place of the processor (`dml train` on a GPU);
     * NULL: nobody. */
    const struct dml_class_banks *banks;
};

struct dml_loss {
    double value;  /* as the criterion's paper scales it: a mean over what it looks at */
    size_t tuples; /* tuples, anchors or pairs that were looked at */
    size_t active; /* those that contributed a gradient */
};

/* A learnable parameter of a criterion, for the optimiser and checkpoints. `values` and `grad`
 * belong to the criterion and live as long as it does. No weight decay. */
struct dml_criterion_parameter {
    const char *name; /* "beta", "proxies", "class_map", "centroids" */
    float *values;
    float *grad;    /* of the last forward_backward */
    size_t dims[2]; /* shape, row-major; dims[1] is 1 for a vector */
    double lr;      /* its own learning rate, before any schedule */
    /* NULL, or what holds it in place of `values` and `grad`, which then are room for copies. */
    struct dml_class_bank *bank;
};

/* An array of a criterion's state that is not learnt but belongs to what a run resumes from: a
 * running histogram, a draw of its own. It belongs to the criterion and lives as long as it does.
 */
struct dml_criterion_buffer {
    const char *name;
    float *floats;       /* the values, where they are floats */
    int32_t *ints;       /* where they are whole numbers; the other one is NULL */
    size_t dims[2];      /* shape, row-major; dims[1] is 1 for a vector */
    int32_t least, most; /* bounds of ints */
    bool transient;      /* needed only to resume a run; not part of a checkpoint */
};

/* A criterion (loss). Functions get the `state` that create made. */
struct dml_criterion {
    struct dml_method method;
    enum dml_tuple_kind takes;
    /* What a criterion that takes DML_TUPLES_NONE uses instead where a miner gives it:
     * DML_TUPLES_LISTS, or DML_TUPLES_NONE (0) when it only looks at the whole batch. */
    enum dml_tuple_kind may_take;
    bool takes_reference; /* compares the batch with batch->reference where it is not NULL */

    /* Sets *state; NULL: there is none. `options` is the struct of the method's table and outlives
     * the state, `context` does not. */
    enum dml_status (*create)(const void *options, const struct dml_criterion_context *context,
                              void **state);

    /* Loss of the batch, dL/d(embeddings) into `grad` (n, dim; every element is written), and the
     * gradients of the learnable parameters into their own arrays (overwritten). `tuples` is NULL
     * where it looks at the whole batch, or at batch->reference. With nothing to learn from (no
     * tuples, no active anchors) the loss and all gradients are 0. Inputs are finite and labels in
     * range: the caller has checked. Working memory must be allocated before the first value is
     * written. `rng` may be NULL where nothing is drawn: only quadruplet draws, and only without
     * `fourth`. */
    enum dml_status (*forward_backward)(void *state, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss);

    /* Lists the learnable parameters, at most `max`; returns how many. NULL: none. */
    size_t (*parameters)(void *state, struct dml_criterion_parameter *out, size_t max);

    /* Lists the buffers, at most `max`; returns how many. NULL: none. */
    size_t (*buffers)(void *state, struct dml_criterion_buffer *out, size_t max);

    void (*destroy)(void *state); /* may be NULL when create is; accepts NULL */

    /* The margin that the semihard miner is to use, as a distance; NULL: 0.2. */
    double (*margin)(const void *options);
};

/* A criterion in use: descriptor, options and state together. This is the entry point for programs
 * that use a criterion in a pipeline of their own. */
struct dml_objective;

/* `flags` sets options as on the command line ("--loss_margin_beta 0.6"), or is NULL. The caller
 * frees the result with dml_objective_free; `context` may go. DML_ERROR_USAGE: no such criterion or
 * flag, a value out of bounds. DML_ERROR_INPUT: an invalid context. On failure *out is unchanged.
 */
DML_API enum dml_status dml_objective_open(const char *criterion, const char *flags,
                                           const struct dml_criterion_context *context,
                                           struct dml_objective **out);
/* The same with options that a table already filled (copied shallowly: they must outlive it). */
DML_API enum dml_status dml_objective_create(const struct dml_criterion *criterion,
                                             const void *options,
                                             const struct dml_criterion_context *context,
                                             struct dml_objective **out);
DML_API void dml_objective_free(struct dml_objective *objective);

DML_API const struct dml_criterion *dml_objective_criterion(const struct dml_objective *objective);

/* Gives it a memory of the last `size` embeddings. A computation then first stores the batch, of at
 * most `size`, and compares it with all that is stored: batch->reference and tuples must be NULL.
 * DML_ERROR_USAGE: the criterion does not compare with a reference; the message lists those that
 * do. */
DML_API enum dml_status dml_objective_remember(struct dml_objective *objective, size_t size);

/* A sum of `count` criteria, at most DML_OBJECTIVE_TERMS: loss and gradients of each times its
 * weight. Takes ownership of the terms; on failure they stay the caller's. Names of learnable
 * parameters and buffers begin with their criterion's: "softmax.class_map". DML_ERROR_USAGE: a
 * criterion twice, a sum within a sum, a weight that is negative or not finite, too many terms. */
enum { DML_OBJECTIVE_TERMS = 8 };
DML_API enum dml_status dml_objective_sum(struct dml_objective *const *terms, const double *weights,
                                          size_t count, struct dml_objective **out);

/* The i-th criterion; NULL after the last. dml_objective_criterion is the first. */
DML_API const struct dml_criterion *dml_objective_term(const struct dml_objective *objective,
                                                       size_t i);

/* DML_OK where a criterion compares with a reference, else the failure that lists those that do. */
DML_API enum dml_status dml_reference_allowed(const struct dml_criterion *criterion);

/* Checks its input (finite embeddings, labels in range, tuples of the right kind with indices in
 * the batch), then computes loss and gradients as dml_criterion.forward_backward documents.
 * On failure nothing is written: DML_ERROR_INPUT names the first culprit. `tuples` are those of the
 * first criterion of a sum. Embeddings so large
 * that float32 overflows may give a loss that is not finite: the caller has to check for that.
 * An objective keeps working memory between calls: one thread at a time. */
DML_API enum dml_status dml_objective_compute(struct dml_objective *objective,
                                              const struct dml_batch *batch,
                                              const struct dml_tuples *tuples, struct dml_rng *rng,
                                              float *grad, struct dml_loss *loss);

/* The same where each criterion of a sum has its own tuples; NULL where it takes none. */
DML_API enum dml_status dml_objective_compute_sum(struct dml_objective *objective,
                                                  const struct dml_batch *batch,
                                                  const struct dml_tuples *const *tuples,
                                                  struct dml_rng *rng, float *grad,
                                                  struct dml_loss *loss);

/* The learnable parameters, at most `max` of them (no built-in criterion has more than one);
 * returns how many were listed. The caller may change `values` between two computations, as an
 * optimiser does.
 */
DML_API size_t dml_objective_parameters(struct dml_objective *objective,
                                        struct dml_criterion_parameter *out, size_t max);

/* The buffers, at most `max` of them; returns how many were listed. The caller may set the values
 * between two computations, to those of a checkpoint. */
DML_API size_t dml_objective_buffers(struct dml_objective *objective,
                                     struct dml_criterion_buffer *out, size_t max);

#ifdef __cplusplus
}
#endif
#endif
