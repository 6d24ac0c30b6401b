#ifndef DML_CLI_EMBEDDED_H
#define DML_CLI_EMBEDDED_H

#include "cli/images.h"
#include "train/model.h"

/* Parts of a data set, and their names: the choices of a flag --part. */
enum dml_cli_part { DML_CLI_TESTING, DML_CLI_TRAINING, DML_CLI_VALIDATION };
extern const char *const dml_cli_parts[];

/* What `dml eval`, `dml embed` and `dml search` share: flags whose defaults come from a checkpoint,
 * and images embedded by its network. */

/* The tables of `dml train` (a checkpoint supplies its values), `table` and `more` (NULL: none),
 * set from the command line. On DML_OK *params is NULL if --help was given; `usage`, the tables and
 * the flags of a run that matter here have then been printed. */
enum dml_status dml_cli_params(const struct dml_param_table *table,
                               const struct dml_param_table *more, const char *usage, int argc,
                               char **argv, struct dml_params **params);

/* Opens the network that embeds: that of `checkpoint` or, where that is empty, the pretrained one
 * of --arch and --weights, on all ranks of `comm` (NULL: this process). DML_ERROR_USAGE: neither or
 * both are given. */
enum dml_status dml_cli_open_model(const char *checkpoint, struct dml_params *params,
                                   struct dml_comm *comm, struct dml_model *out);

/* Images with their embeddings. The part belongs to the data set or to the list. */
struct dml_embedded {
    struct dml_dataset dataset;
    struct dml_part listed;
    const struct dml_part *part;
    size_t dim;
    float *embeddings; /* (part->images, dim), once computed */
};

/* Finds the images. `sources` are images, folders and lists; where there are none, the images are
 * those of `part` ("testing", "training", "validation") of the data set that the flags (or the
 * checkpoint) name. */
enum dml_status dml_embedded_open(const struct dml_model *model, struct dml_params *params,
                                  const struct dml_strings *sources, enum dml_cli_part part,
                                  struct dml_embedded *out);
/* Embeds them, which may take long: check everything else first. It fails on an image that cannot
 * be read. Ranks whose weights or images differ are named; of several ranks, rank 0 has the
 * embeddings. Ends early once *stop (may be NULL) is set. */
enum dml_status dml_embedded_compute(const struct dml_model *model, const struct dml_params *params,
                                     const volatile sig_atomic_t *stop,
                                     struct dml_embedded *embedded);
void dml_embedded_free(struct dml_embedded *embedded);

#endif
