#ifndef DML_TRAIN_EMBEDDING_H
#define DML_TRAIN_EMBEDDING_H

#include "backends/network.h"
#include "comm/comm.h"
#include "data/loader.h"

#include <signal.h>

/* How many images a loader for embedding hands over at a time: those of a training batch, but no
 * more than the network takes at once. Loaders keep their memory, and there are several. */
size_t dml_embedding_batch(size_t training_batch);

/* Tells the network of the loader's next batch, if it is made: after one was taken, and before it
 * is computed. After the last dml_network_announce(network, NULL) is due. */
void dml_announce_next(struct dml_network *network, struct dml_loader *loader);

/* Who has the embeddings that ranks have made together. */
enum dml_embedded { DML_EMBEDDED_EVERYWHERE, DML_EMBEDDED_AT_ROOT };

/* Embeds all `count` images of a loader's part in order with evaluation transforms, showing a
 * progress bar called `title`. embeddings: (count, embed_dim). Ranks share the loader's batches
 * evenly, so that all are computed as by one process; with DML_EMBEDDED_AT_ROOT only rank 0 ends up
 * with all of them. Ends early with DML_ERROR_INTERRUPTED once *stop is set (may be NULL). */
enum dml_status dml_embed_images(struct dml_network *network, struct dml_loader *loader,
                                 size_t count, const char *title, const volatile sig_atomic_t *stop,
                                 struct dml_comm *comm, enum dml_embedded where, float *embeddings);

#endif
