#include "miners/common.h"

#include "base/memory.h"
#include "math/gram.h"
#include "math/linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum dml_status miner_create(const void *options, const struct dml_miner_context *context,
                             void **state) {
    struct miner_state *made = dml_alloc(1, sizeof *made);
    if (!made)
        return DML_ERROR_MEMORY;
    made->options = options;
    made->context = *context;
    *state = made;
    return DML_OK;
}

static void free_lists(struct miner_state *state) {
    free(state->classes.order);
    free(state->classes.start);
    free(state->classes.class_of);
    free(state->classes.place);
    free(state->keys);
    free(state->spare_keys);
    free(state->draws);
    free(state->norms);
    memset(&state->classes, 0, sizeof state->classes);
    state->keys = state->spare_keys = NULL;
    state->draws = NULL;
    state->norms = NULL;
    state->capacity = 0;
}

void miner_destroy(void *state) {
    struct miner_state *own = state;
    if (!own)
        return;
    free_lists(own);
    free(own->gram);
    free(own->exact);
    free(own);
}

static enum dml_status make_room(struct miner_state *state, size_t n) {
    if (n <= state->capacity)
        return DML_OK;
    free_lists(state);
    struct miner_classes *classes = &state->classes;
    classes->order = dml_alloc(n, sizeof *classes->order);
    classes->start = dml_alloc(n + 1, sizeof *classes->start);
    classes->class_of = dml_alloc(n, sizeof *classes->class_of);
    classes->place = dml_alloc(n, sizeof *classes->place);
    state->keys = dml_alloc(n, sizeof *state->keys);
    state->spare_keys = dml_alloc(n, sizeof *state->spare_keys);
    state->draws = dml_alloc(n, 2 * sizeof *state->draws);
    state->norms = dml_alloc(n, sizeof *state->norms);
    if (!classes->order || !classes->start || !classes->class_of || !classes->place ||
        !state->keys || !state->spare_keys || !state->draws || !state->norms)
        return DML_ERROR_MEMORY; /* capacity stays 0: the next call starts afresh */
    state->capacity = n;
    return DML_OK;
}

/* Stable, so that sorting by one byte after the other sorts by all of them. */
static void sort_by_byte(const uint64_t *from, uint64_t *to, size_t n, int shift) {
    size_t count[257] = {0};
    for (size_t i = 0; i < n; i++)
        count[(from[i] >> shift & 0xFF) + 1]++;
    for (int b = 0; b < 256; b++)
        count[b + 1] += count[b];
    for (size_t i = 0; i < n; i++)
        to[count[from[i] >> shift & 0xFF]++] = from[i];
}

enum dml_status miner_classify(struct miner_state *state, const int32_t *labels, size_t n) {
    enum dml_status status = make_room(state, n);
    if (status)
        return status;
    uint64_t seen = 0; /* bits in which labels differ from the first */
    for (size_t i = 0; i < n; i++) {
        state->keys[i] = (uint64_t)(uint32_t)labels[i] << 32 | i;
        seen |= (state->keys[i] ^ state->keys[0]) >> 32;
    }
    for (int byte = 0; byte < 4; byte++) {
        if ((seen >> 8 * byte & 0xFF) == 0)
            continue;
        sort_by_byte(state->keys, state->spare_keys, n, 32 + 8 * byte);
        uint64_t *swap = state->keys;
        state->keys = state->spare_keys;
        state->spare_keys = swap;
    }

    struct miner_classes *classes = &state->classes;
    classes->n = n;
    classes->count = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t sample = (uint32_t)state->keys[i];
        if (i == 0 || state->keys[i] >> 32 != state->keys[i - 1] >> 32)
            classes->start[classes->count++] = (uint32_t)i;
        classes->order[i] = sample;
        classes->place[sample] = (uint32_t)i;
        classes->class_of[sample] = (uint32_t)classes->count - 1;
    }
    classes->start[classes->count] = (uint32_t)n;
    return DML_OK;
}

enum dml_status miner_measure(struct miner_state *state, const struct dml_batch *batch) {
    size_t n = batch->n;
    enum dml_status status = make_room(state, n);
    if (status)
        return status;
    if (n > state->gram_capacity) {
        free(state->gram);
        state->gram_capacity = 0;
        state->gram = dml_alloc_aligned(n, n * sizeof *state->gram);
        if (!state->gram)
            return DML_ERROR_MEMORY;
        state->gram_capacity = n;
    }
    dml_gram(batch->embeddings, n, batch->dim, state->gram);
    state->largest_norm = 0;
    for (size_t i = 0; i < n; i++) {
        state->norms[i] = state->gram[i * n + i];
        state->largest_norm = fmaxf(state->largest_norm, state->norms[i]);
    }
    /* Rounding of a float32 sum of dim products grows with sqrt(dim); with some to spare. */
    state->tolerance = 4e-7f * (8 + sqrtf((float)batch->dim));
    return DML_OK;
}

size_t miner_positive_at(const struct miner_classes *classes, size_t sample, size_t k) {
    size_t at = classes->start[classes->class_of[sample]] + k;
    return classes->order[at < classes->place[sample] ? at : at + 1];
}

size_t miner_negative_at(const struct miner_classes *classes, size_t sample, size_t k) {
    size_t of = classes->class_of[sample];
    size_t first = classes->start[of];
    return classes->order[k < first ? k : k - first + classes->start[of + 1]];
}

size_t miner_any_positive(const struct miner_classes *classes, size_t sample, struct dml_rng *rng) {
    return miner_positive_at(classes, sample, dml_rng_below(rng, miner_positives(classes, sample)));
}

size_t miner_any_negative(const struct miner_classes *classes, size_t sample, struct dml_rng *rng) {
    return miner_negative_at(classes, sample, dml_rng_below(rng, miner_negatives(classes, sample)));
}

void miner_distances2(const struct miner_state *state, size_t sample, float least, float *out) {
    size_t n = state->classes.n;
    const float *gram = state->gram + sample * n, *norms = state->norms, own = norms[sample];
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float d2 = own + norms[j] - 2 * gram[j];
        d2 = d2 > least ? d2 : least; /* also where it is NaN */
        out[j] = d2 < 1e30f ? d2 : 1e30f;
    }
}

double miner_distance(const struct dml_batch *batch, size_t a, size_t b) {
    return sqrt(dml_distance2(batch->embeddings + a * batch->dim,
                              batch->embeddings + b * batch->dim, batch->dim));
}

double miner_beyond(const struct miner_state *state, const struct dml_batch *batch, size_t a,
                    size_t b, double limit) {
    float norms = state->norms[a] + state->norms[b];
    double excess = norms - 2 * state->gram[a * batch->n + b] - limit * limit;
    if (fabs(excess) > state->tolerance * norms) /* false for overflows as well */
        return excess;
    return miner_distance(batch, a, b) - limit;
}
