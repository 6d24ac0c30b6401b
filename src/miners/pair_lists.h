#ifndef DML_MINERS_PAIR_LISTS_H
#define DML_MINERS_PAIR_LISTS_H

#include "miners/common.h"

/* Empty lists with capacity for all pairs of the batch; call miner_classify first. */
enum dml_status miner_start_lists(const struct miner_state *state, struct dml_tuples *out);

static inline void miner_add_pair(struct dml_pairs *pairs, size_t anchor, size_t other) {
    pairs->anchors[pairs->count] = (int32_t)anchor;
    pairs->others[pairs->count++] = (int32_t)other;
}

#endif
