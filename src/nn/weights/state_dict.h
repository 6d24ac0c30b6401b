#ifndef DML_NN_WEIGHTS_STATE_DICT_H
#define DML_NN_WEIGHTS_STATE_DICT_H

#include "nn/weights/pickle.h"

/* Where in a checkpoint the model's tensors are: torch.save takes anything, and every project wraps
 * its state dict in its own way. */

/* The dict that holds them: below the names that training code gives it (state_dict, model, teacher
 * ...), nested in any order; else the one dict with tensors by name, or with more of them than all
 * others together. `path` is how it was reached ("model.state_dict", "" at the top) and `left` the
 * keys beside it at the top ("epoch, optimizer", "" without any); free() both, even after a
 * failure. DML_ERROR_INPUT: there is none, or which one is not clear; the message lists the keys
 * that there are. The walk marks the values as seen. */
enum dml_status dml_state_dict_find(struct dml_pickle_value *root, const char *file,
                                    const struct dml_pickle_value **dict, char **path, char **left);

/* The tensor (TENSOR or FOREIGN) that a value holds, NULL when it is something else. */
const struct dml_pickle_value *dml_state_dict_tensor(const struct dml_pickle_value *value);

#endif
