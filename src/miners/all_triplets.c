#include "miners/all_triplets.h"

/* Triplets of one anchor: adds them to `out`, or counts them where it is NULL. */
static size_t of_anchor(const struct miner_state *state, const struct dml_batch *batch, size_t a,
                        miner_keeps keeps, struct dml_tuples *out) {
    const size_t n = batch->n;
    const double *d = state->exact;
    size_t count = 0;
    for (size_t p = 0; p < n; p++) {
        if (p == a || batch->labels[p] != batch->labels[a])
            continue;
        for (size_t j = 0; j < n; j++) {
            if (batch->labels[j] == batch->labels[a] ||
                !keeps(state->options, d + a * n, d + p * n, p, j))
                continue;
            count++;
            if (out)
                miner_add(out, a, p, j);
        }
    }
    return count;
}

enum dml_status miner_all_triplets(struct miner_state *state, const struct dml_batch *batch,
                                   miner_keeps keeps, struct dml_tuples *out) {
    enum dml_status status = miner_distances64(state, batch);
    if (status)
        return status;
    size_t count = 0;
#pragma omp parallel for reduction(+ : count) schedule(dynamic, 4) if (batch->n > 32)
    for (size_t a = 0; a < batch->n; a++)
        count += of_anchor(state, batch, a, keeps, NULL);
    status = dml_tuples_reserve(out, DML_TUPLES_TRIPLETS, count);
    for (size_t a = 0; !status && a < batch->n; a++)
        of_anchor(state, batch, a, keeps, out);
    return status;
}
