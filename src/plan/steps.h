#ifndef DML_PLAN_STEPS_H
#define DML_PLAN_STEPS_H

#include "plan/plan.h"

/* What the builders of both passes append to. */

/* A reference to a whole tensor in a new slot, and to `bytes` (0: slot -1) in a new slot. slot -1
 * when out of memory, which plan->failed remembers. */
struct plan_ref plan_tensor(struct plan *plan, const struct plan_layout *layout);
struct plan_ref plan_scratch(struct plan *plan, size_t bytes);

/* A step with references to nothing. */
struct plan_step plan_step_make(enum plan_step_kind kind, int fusion);
/* Gives the step the scratch memory that the traits want for it and appends it; its slots are alive
 * in it. False when out of memory, now or earlier for a slot. */
bool plan_append(struct plan *plan, struct plan_step step);

/* Whether a fusion's relu is applied by the max pool after it in the backward pass: where a
 * maximum is positive, so was the value that won, and nothing else gets a gradient. */
bool plan_masked_by_pool(const struct plan *plan, int fusion);

/* The block that fusion `u` is in, whose tensors the backward pass computes again when it gets
 * there, instead of keeping them (Chen et al. 2016, Training deep nets with sublinear memory cost);
 * 0: in none. With traits->recompute, blocks are the graph's layers that consist of operations
 * alone: those of transformers. (Sums and relus count as such.) */
int plan_block(const struct plan *plan, int u);
/* Whether its tensor is one of them: no fusion outside the block uses it. */
bool plan_recomputes(const struct plan *plan, int u);
/* Appends fusion u's step of the forward pass; values[u] and states[u] become new. */
bool plan_forward_step(struct plan *plan, int u, struct plan_ref *values, struct plan_ref *states);

/* The two passes. The first sets values[u] to where fusion u's tensor lies, and states[u] to what
 * its forward pass keeps beside it; the second reads them. */
enum dml_status plan_forward(struct plan *plan, struct plan_ref *values, struct plan_ref *states);
enum dml_status plan_backward(struct plan *plan, struct plan_ref *values, struct plan_ref *states);

/* Gives each slot its place, and the arena its size. */
enum dml_status plan_place(struct plan *plan);

#endif
