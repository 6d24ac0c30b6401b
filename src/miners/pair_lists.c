#include "miners/pair_lists.h"

enum dml_status miner_start_lists(const struct miner_state *state, struct dml_tuples *out) {
    const size_t n = state->classes.n;
    size_t positives = 0;
    for (size_t i = 0; i < n; i++)
        positives += miner_positives(&state->classes, i);
    return dml_tuples_reserve_lists(out, positives, n * (n - 1) - positives);
}
