#ifndef DML_TRAIN_RANKS_H
#define DML_TRAIN_RANKS_H

#include "comm/comm.h"
#include "tracking/tracker.h"
#include "train/experiment.h"

/* What the ranks of a run tell each other. Every rank has a part of each batch, and after the
 * forward pass all have the whole of it: they mine the same tuples and compute the same loss. */
struct dml_run_ranks {
    struct dml_comm *comm;
    size_t part, first; /* images of a batch that this rank computes, and where they begin in it */
    size_t bs, dim;
    float *embeddings;             /* of the whole batch: (bs, dim) */
    int32_t *labels;               /* (bs) */
    uint32_t *indices;             /* (bs) */
    bool stop, save;               /* after this step: the user asked a rank; rank 0 passes it on */
    char *messages;                /* (ranks) of a step */
    size_t message;                /* bytes of one */
    double started, waited_before; /* when dml_ranks_begin was called, and time waited by then */
    struct dml_rank_record *records; /* (ranks) of the last epoch, for its record */
    bool shown;                      /* the first records were printed */
};

enum dml_status dml_ranks_open(struct dml_comm *comm, size_t bs, size_t dim,
                               struct dml_run_ranks *out);
void dml_ranks_close(struct dml_run_ranks *ranks);

/* After the forward pass, which has put this rank's embeddings in their place. `stop` and `save`
 * are what this rank wants. */
enum dml_status dml_ranks_gather(struct dml_run_ranks *ranks, const struct dml_loaded *own,
                                 bool stop, bool save);

/* The ranks as a backend sees them. Valid as long as `comm` is. */
struct dml_batch_parts dml_ranks_parts(struct dml_comm *comm);

/* Makes rank 0's flags and the state that it resumes known to all: with --resume other ranks need
 * not see its file. `params` hold what the command line and --params say. DML_ERROR_USAGE: another
 * rank's flags differ where results depend on them, or N does not divide a batch. */
enum dml_status dml_ranks_agree(struct dml_comm *comm, const struct dml_params *params);
enum dml_status dml_ranks_adopt(struct dml_comm *comm, struct dml_params *params);

/* DML_ERROR_INPUT: a rank has another data set or other weights than rank 0. */
enum dml_status dml_ranks_check(struct dml_comm *comm, const struct dml_experiment *experiment);
/* Only the weights, as they may drift apart on unlike processors. */
enum dml_status dml_ranks_check_weights(struct dml_comm *comm, struct dml_network *network);
/* Names, sizes and labels of a part's images. */
enum dml_status dml_ranks_check_images(struct dml_comm *comm, const struct dml_part *part);

/* Running statistics of batch norm become rank 0's: with --no_sync_bn each rank has its own. */
enum dml_status dml_ranks_share_statistics(struct dml_comm *comm, struct dml_network *network);

/* What loaders on any rank have reported about the images of `count` parts becomes known to all;
 * rank 0 tells the user about those that it did not meet itself. */
enum dml_status dml_ranks_share_told(struct dml_comm *comm, const struct dml_part *const *parts,
                                     size_t count);

/* Around the steps of an epoch: every rank learns how fast each one was over `steps` steps, and how
 * long it waited. Rank 0 prints it the first time. *count: of r->records, 0 where there was nothing
 * to measure. */
void dml_ranks_begin(struct dml_run_ranks *ranks);
enum dml_status dml_ranks_measure(struct dml_run_ranks *ranks, size_t steps, size_t *count);

/* The table of the ranks: machine, process, threads, GPU. */
enum dml_status dml_ranks_print(struct dml_comm *comm, const struct dml_network *network);

#endif
