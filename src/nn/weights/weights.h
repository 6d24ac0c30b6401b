#ifndef DML_NN_WEIGHTS_WEIGHTS_H
#define DML_NN_WEIGHTS_WEIGHTS_H

#include "nn/graph.h"
#include "nn/weights/tensors.h"

/* Between weight files and the parameters of a graph. A run that starts from ImageNet weights:
 *
 *     dml_weights_find(dml_backbone_find(arch), options->weights, &path)
 *     dml_tensors_read(path, &tensors)
 *     dml_weights_load(graph, &tensors, path, false, put, network)
 *
 * where put(network, index, values) is dml_network_write(network, index, DML_SLOT_VALUE, values).
 * A checkpoint: dml_weights_collect, dml_tensors_set_note, dml_safetensors_write; and back with
 * dml_weights_load(..., true, ...). */

/* The file to read: `flag` (--weights) where it is not empty; else the backbone's weights_file,
 * the same name with .safetensors, or the name it is published under, in $DML_WEIGHTS or else in
 * ~/.cache/dml. DML_ERROR_INPUT when there is none: the message says what is expected where, where
 * it is published, and how to go without. free() the path. */
enum dml_status dml_weights_find(const struct dml_backbone *backbone, const char *flag,
                                 char **path);

/* The tensor of each parameter of the graph, into matched[graph->param_count]. With `head` false
 * the last layer's stay NULL: it is new; with `head` true it must be there, in its shape, as for a
 * checkpoint. Also found: names below any chain of wrappers ("model.", "module.backbone."), and the
 * last layer under torchvision's "fc" or Cadene's "last_linear". Tensors that the graph does not
 * use (num_batches_tracked, auxiliary classifiers) are passed over. `file` is for messages.
 * DML_ERROR_INPUT: one line lists what is missing or has another shape, or names the backbone that
 * the file belongs to. */
enum dml_status dml_weights_match(const struct dml_graph *graph, const struct dml_tensors *tensors,
                                  const char *file, bool head, const struct dml_tensor **matched);

/* Matches, checks that everything is finite and no variance negative (DML_ERROR_INPUT names the
 * first tensor that is not), and then gives each parameter's values, as float32 in PyTorch's
 * layout, to put(data, index, values). */
enum dml_status dml_weights_load(const struct dml_graph *graph, const struct dml_tensors *tensors,
                                 const char *file, bool head,
                                 enum dml_status (*put)(void *data, int index, const float *values),
                                 void *data);

/* Appends every parameter of the graph, buffers included, as float32 tensors with PyTorch's names
 * and shapes; get(data, index, values) fills in the values. */
enum dml_status dml_weights_collect(const struct dml_graph *graph,
                                    enum dml_status (*get)(void *data, int index, float *values),
                                    void *data, struct dml_tensors *out);

#endif
