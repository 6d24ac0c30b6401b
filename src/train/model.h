#ifndef DML_TRAIN_MODEL_H
#define DML_TRAIN_MODEL_H

#include "backends/network.h"
#include "comm/comm.h"
#include "data/loader.h"
#include "data/pipeline.h"
#include "dml/params.h"

#include <signal.h>

/* A trained network, from a checkpoint or as published, ready to embed images. */
struct dml_model {
    struct dml_network *network;
    struct dml_transforms transforms;
    struct dml_transform transform; /* the one of them for evaluation images */
    struct dml_comm *comm;          /* the ranks that embed with it; borrowed, NULL: this process */
};

/* Opens a checkpoint (any weight file that holds all parameters, the head included). `params` has
 * the tables of dml_train_params: what was not given is taken from the checkpoint's metadata, so
 * backbone, image size, data set and metrics are those of the run unless flags say otherwise. All
 * ranks of `comm` (NULL: none but this process) open it, on the processor or each on a GPU of
 * --gpu. */
enum dml_status dml_model_open(const char *checkpoint, struct dml_params *params,
                               struct dml_comm *comm, struct dml_model *out);

/* The network of --arch, --embed_dim and the head's flags with initial values from --seed; its
 * backbone has published weights unless --not_pretrained. */
enum dml_status dml_model_create(struct dml_params *params, struct dml_model *out);

/* A pretrained backbone without a head: the flags' --arch with the weights of --weights, or those
 * that are found for it (weights/weights.h). Embeddings are its features. */
enum dml_status dml_model_open_pretrained(struct dml_params *params, struct dml_comm *comm,
                                          struct dml_model *out);

void dml_model_close(struct dml_model *model);

/* Embeds all images of a part in order. *embeddings (part->images, embed_dim) is freed with
 * free(); of several ranks rank 0 has all of them. DML_ERROR_INPUT or DML_ERROR_IO: an image cannot
 * be read; a row is never that of another image. DML_ERROR_INTERRUPTED: *stop (may be NULL) was
 * set. */
enum dml_status dml_model_embed_part(const struct dml_model *model, const struct dml_part *part,
                                     const struct dml_params *params, const char *title,
                                     const volatile sig_atomic_t *stop, float **embeddings);

#endif
