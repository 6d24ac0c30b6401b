#ifndef DML_NETWORK_H
#define DML_NETWORK_H

#include "dml/criteria.h"
#include "dml/data.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Networks that embed images. Flags are NULL-terminated lists of words, as for `dml train`
 * ("--arch", "resnet50_normalize"); NULL: the defaults. One thread at a time for each network. */
struct dml_net;

/* Builds the network of --arch and --embed_dim with random initial values (--seed) and, unless
 * --not_pretrained is given, the backbone's published weights (from --weights, or from where they
 * are looked for). DML_ERROR_USAGE: a wrong flag. DML_ERROR_INPUT: a file of weights is missing or
 * does not fit. Free with dml_net_free. */
DML_API enum dml_status dml_net_open(const char *const *flags, struct dml_net **out);

/* The network of a checkpoint: what flags do not say is taken from it. */
DML_API enum dml_status dml_net_restore(const char *checkpoint, const char *const *flags,
                                        struct dml_net **out);
DML_API void dml_net_free(struct dml_net *net);

/* All weights, the head's included, from a file in safetensors or PyTorch format. */
DML_API enum dml_status dml_net_load(struct dml_net *net, const char *path);

/* Writes a checkpoint, whole or not at all, for dml_net_restore and `dml embed --checkpoint`. */
DML_API enum dml_status dml_net_save(struct dml_net *net, const char *path);

DML_API size_t dml_net_dim(const struct dml_net *net);  /* of an embedding */
DML_API size_t dml_net_side(const struct dml_net *net); /* of its square images, in pixels */

/* Embeds any number of images, for evaluation: nothing is kept and no statistic changes.
 * embeddings: (n, dim). DML_ERROR_INPUT: images of a different size. */
DML_API enum dml_status dml_net_embed(struct dml_net *net, const struct dml_image_batch *images,
                                      float *embeddings);

/* Embeds the images of a part, or JPEG and PNG files, in order. *embeddings (images, dim) is freed
 * with free(). DML_ERROR_INPUT, DML_ERROR_IO: an image that cannot be read. */
DML_API enum dml_status dml_net_embed_part(struct dml_net *net, const struct dml_data *data,
                                           enum dml_data_part part, float **embeddings);
DML_API enum dml_status dml_net_embed_files(struct dml_net *net, const char *const *paths,
                                            size_t count, float **embeddings);

/* Embeds a batch for training, and keeps what backward needs: embedding in between discards it.
 * backward turns the gradient of the loss with respect to the embeddings (n, dim) into that of
 * every parameter. */
DML_API enum dml_status dml_net_forward(struct dml_net *net, const struct dml_image_batch *images,
                                        float *embeddings);
DML_API enum dml_status dml_net_backward(struct dml_net *net, const float *grad);

/* What turns gradients into new weights of a network and its criterion. */
struct dml_learning;

/* As the network's flags say: --optim, --lr, --decay, --scheduler, clipping, freezing, groups.
 * Network and objective must outlive it. DML_ERROR_USAGE: flags that contradict each other or name
 * something that does not exist. Free with dml_learning_free. */
DML_API enum dml_status dml_learning_open(struct dml_net *net, struct dml_objective *objective,
                                          size_t steps_per_epoch, struct dml_learning **out);
DML_API void dml_learning_free(struct dml_learning *learning);

/* One step from the gradients that backward and the criterion left. DML_ERROR_NUMERIC: one of them
 * is not finite; then nothing has changed. */
DML_API enum dml_status dml_learning_step(struct dml_learning *learning);

#ifdef __cplusplus
}
#endif
#endif
