#ifndef DML_NN_WEIGHTS_TORCH_STATE_H
#define DML_NN_WEIGHTS_TORCH_STATE_H

#include "nn/weights/pickle.h"
#include "nn/weights/tensors.h"

/* The part of reading torch files that both formats share: from the values of a pickle to tensors.
 * First dml_torch_state_open, then the format sets `data` of every storage that has a user, then
 * dml_torch_state_tensors. */

/* A storage as the pickle announces it. */
struct dml_torch_storage {
    const char *key; /* in the pickle, key_length bytes */
    size_t key_length;
    enum dml_dtype dtype; /* DML_DTYPE_COUNT: numbers without a type here, such as complex ones */
    size_t width;         /* bytes of an element */
    size_t count;         /* elements */
    const char *user;     /* the first tensor that needs it, or NULL */
    const unsigned char *data;
    void *owned; /* or NULL */
};

struct dml_torch_view;

struct dml_torch_state {
    const char *file;
    struct dml_torch_storage *storages; /* by key */
    size_t storage_count;
    struct dml_torch_view *views;
    size_t view_count, view_capacity;
};

/* Finds the state dict and checks that every tensor lies within its storage. The pickle must
 * outlive the state. Notes and the remark go to `out`. Close it even after a failure. */
enum dml_status dml_torch_state_open(struct dml_pickle *pickle, const char *file,
                                     struct dml_torch_state *state, struct dml_tensors *out);
struct dml_torch_storage *dml_torch_state_find(const struct dml_torch_state *state, const char *key,
                                               size_t key_length);

/* Appends the tensors. Those that lie contiguously in `bytes` point there, others are copied. No
 * more is copied than a small multiple of the file's size. */
enum dml_status dml_torch_state_tensors(const struct dml_torch_state *state, const void *bytes,
                                        size_t size, struct dml_tensors *out);
void dml_torch_state_close(struct dml_torch_state *state);

#endif
