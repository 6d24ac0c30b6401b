#ifndef DML_NN_WEIGHTS_VIT_NAMES_H
#define DML_NN_WEIGHTS_VIT_NAMES_H

#include "nn/graph.h"
#include "nn/weights/tensors.h"

/* Vision transformers are published under several sets of names: timm's, which are ours; those of
 * DINO and DINOv2; transformers' ViT, Dinov2 and CLIP; OpenAI's and open_clip's CLIP, also around a
 * timm trunk. The family is recognised by the names themselves. */

/* Whether the graph is a vision transformer's. */
bool dml_vit_is(const struct dml_graph *graph);

/* The tensors of a file under the graph's names and in its shapes: queries, keys and values
 * stacked, projections transposed, position embeddings resampled for the graph's grid. Names that
 * are unknown stay as they are. Views into `tensors`, which must outlive the list; free with
 * dml_tensors_free. DML_ERROR_INPUT: one line that names what does not fit the graph: another
 * depth, tokens or parts that it does not have, positions that are not a square, a text tower
 * alone.
 */
enum dml_status dml_vit_translate(const struct dml_graph *graph, const struct dml_tensors *tensors,
                                  const char *file, struct dml_tensors *out);

#endif
