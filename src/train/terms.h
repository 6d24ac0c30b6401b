#ifndef DML_TRAIN_TERMS_H
#define DML_TRAIN_TERMS_H

#include "dml/criteria.h"
#include "dml/miners.h"
#include "train/options.h"

/* What --loss a+b, --loss_weights, --batch_mining and --xbm_size say: the criteria of a run, each
 * with its batch miner where it takes tuples. */
struct dml_terms {
    size_t count;
    struct dml_term {
        const struct dml_criterion *criterion;
        const struct dml_miner *miner; /* NULL: it looks at the whole batch, or at a memory */
        bool remembers;                /* compares with a cross-batch memory */
        double weight;
        struct dml_mining *mining; /* from here on: of open terms */
        struct dml_tuples tuples;
    } items[DML_OBJECTIVE_TERMS];
    struct dml_objective *objective; /* of all of them */
};

/* Reads the flags, and checks that names exist and what goes together. DML_ERROR_USAGE names what
 * does not, and what would. Nothing is opened. */
enum dml_status dml_terms_read(const struct dml_params *params,
                               const struct dml_training_options *training, struct dml_terms *out);

/* Opens the miners and criteria of terms that were read. `context` holds all but the miner. */
enum dml_status dml_terms_open(struct dml_terms *terms, const struct dml_params *params,
                               const struct dml_training_options *training,
                               const struct dml_criterion_context *context);
void dml_terms_close(struct dml_terms *terms);

/* Mines, then computes the loss and its gradient (n, dim). `swapped` as in dml_mining_compute. */
enum dml_status dml_terms_compute(struct dml_terms *terms, const struct dml_batch *batch,
                                  uint64_t seed, uint64_t step, float *grad, struct dml_loss *loss,
                                  size_t *swapped);

/* "margin + 0.5 tcm", and "distance, none", for the line that tells what a run does. */
void dml_terms_describe(const struct dml_terms *terms, char *criteria, char *miners, size_t size);

#endif
