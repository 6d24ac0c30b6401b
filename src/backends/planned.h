#ifndef DML_BACKENDS_PLANNED_H
#define DML_BACKENDS_PLANNED_H

#include "backends/backend.h"
#include "plan/plan.h"

/* What networks share whose backend runs the plans of src/plan: a few plans of different batch
 * sizes, batches in pieces, and a forward pass that waits for its backward pass. */

enum { DML_PLANS = 8 };

struct dml_planned;

/* A pass over images first .. first + plan->n - 1 with a plan of that size, for which `need` was
 * called after any other plan was used. */
struct dml_planned_pass {
    const struct plan *plan;
    const struct dml_images *images;
    size_t first;
    /* Where the images of the next forward pass begin, if it is known (else NULL): a device may
     * copy them while it computes this one. */
    const struct dml_images *next;
    size_t next_first;
    bool fetched; /* this one was `next` of the one before, and its pixels have not changed since */
};

/* Supplied by a backend. */
struct dml_planned_calls {
    /* Images of 224 x 224 that go through inference at once: enough to keep the device busy; and
     * how many smaller ones at most. */
    size_t embed, embed_most;
    /* Memory for a plan's activations. */
    enum dml_status (*need)(struct dml_planned *network, const struct plan *plan);
    enum dml_status (*forward)(struct dml_planned *network, const struct dml_planned_pass *pass,
                               float *embeddings);
    /* Gradients replace the existing ones where `first` is 0, else they are added to them. */
    enum dml_status (*backward)(struct dml_planned *network, const struct dml_planned_pass *pass,
                                const float *grad);
};

/* Backends' own networks start with it. */
struct dml_planned {
    struct dml_network base;
    const struct dml_planned_calls *calls;
    struct dml_network_options options;
    struct plan_traits traits;
    struct plan *plans[DML_PLANS]; /* the last used first */
    int plan_count;
    /* The forward pass that waits for its backward pass. */
    struct {
        bool valid;
        const struct plan *plan; /* NULL with micro-batches */
        struct dml_images images;
    } waiting;
    /* Images of calls to come, n 0 where they are not known: of the one after the next, and, where
     * a pass was told of them, of the next. */
    struct dml_images announced, next;
};

/* Whether the graph has a node with this operation. */
bool dml_planned_has(const struct dml_graph *graph, enum dml_op op);

/* Whether batches of this network can be computed in pieces: nothing depends on a batch. */
bool dml_planned_in_pieces(const struct dml_graph *graph);

/* Options that mean the same for every such backend: DML_ERROR_UNSUPPORTED where the graph does not
 * allow one. */
enum dml_status dml_planned_check(const struct dml_graph *graph,
                                  const struct dml_network_options *options);

/* The functions of these names in struct dml_backend. */
enum dml_status dml_planned_embed(struct dml_network *network, const struct dml_images *images,
                                  float *embeddings);
enum dml_status dml_planned_forward(struct dml_network *network, const struct dml_images *images,
                                    float *embeddings);
enum dml_status dml_planned_backward(struct dml_network *network, const float *grad);
void dml_planned_announce(struct dml_network *network, const struct dml_images *images);

/* Frees the plans. */
void dml_planned_close(struct dml_planned *network);

#endif
