#include "dml/rng.h"

#include "base/philox.h"

struct dml_rng dml_rng_make(uint64_t seed, enum dml_purpose purpose, uint64_t first,
                            uint64_t second) {
    /* The stream's name is hashed into the key and the counter's upper half, so that any of its
     * 2^64 blocks of 128 bits can be addressed by the lower half. */
    const uint32_t user[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t name[4] = {(uint32_t)first, (uint32_t)(first >> 32) ^ ((uint32_t)purpose << 24),
                              (uint32_t)second, (uint32_t)(second >> 32)};
    uint32_t hashed[4];
    dml_philox(user, name, hashed);
    struct dml_rng rng = {.key = {hashed[0], hashed[1]}, .counter = {0, 0, hashed[2], hashed[3]}};
    return rng;
}

uint32_t dml_rng_bits(struct dml_rng *rng) {
    if (rng->left == 0) {
        dml_philox(rng->key, rng->counter, rng->block);
        if (++rng->counter[0] == 0)
            rng->counter[1]++;
        rng->left = 4;
    }
    return rng->block[4 - rng->left--];
}

static uint64_t bits64(struct dml_rng *rng) {
    uint64_t high = dml_rng_bits(rng);
    return high << 32 | dml_rng_bits(rng);
}

uint64_t dml_rng_below(struct dml_rng *rng, uint64_t n) {
    uint64_t rejected = -n % n; /* 2^64 mod n: values below it would make small results likelier */
    for (;;) {
        uint64_t bits = bits64(rng);
        if (bits >= rejected)
            return bits % n;
    }
}

double dml_rng_uniform(struct dml_rng *rng) {
    uint32_t high = dml_rng_bits(rng);
    return dml_uniform_of(high, dml_rng_bits(rng));
}

size_t dml_rng_choice(struct dml_rng *rng, const double *weights, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += weights[i];
    if (!(sum > 0))
        return n;
    double at = dml_rng_uniform(rng) * sum;
    size_t last = n;
    for (size_t i = 0; i < n; i++) {
        if (!(weights[i] > 0))
            continue;
        last = i;
        at -= weights[i];
        if (at < 0)
            break;
    }
    return last; /* rounding may leave a little of `at` after the last positive weight */
}

/* Floyd's sampling picks the set and a shuffle its order. Membership is looked up in the values
 * drawn so far; a sorted list would only pay off for k far beyond a batch's. */
void dml_rng_distinct(struct dml_rng *rng, uint64_t n, size_t k, uint64_t *out) {
    if (k > 64 && k > n / 8) { /* dense: selection sampling in one pass, then a shuffle */
        size_t taken = 0;
        for (uint64_t i = 0; i < n && taken < k; i++)
            if (dml_rng_below(rng, n - i) < k - taken)
                out[taken++] = i;
    } else {
        for (size_t j = 0; j < k; j++) {
            uint64_t top = n - k + j, value = dml_rng_below(rng, top + 1);
            for (size_t i = 0; i < j; i++)
                if (out[i] == value) {
                    value = top;
                    break;
                }
            out[j] = value;
        }
    }
    for (size_t i = k; i > 1; i--) {
        size_t other = dml_rng_below(rng, i);
        uint64_t swap = out[i - 1];
        out[i - 1] = out[other];
        out[other] = swap;
    }
}
