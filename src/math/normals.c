#include "dml/rng.h"

#include "base/philox.h"
#include "math/transcendental.h"

#include <math.h>

/* Of each block of a stream one value by the transform of Box and Muller (1958). This file is
 * compiled without contracting products and sums, so that every level of the processor draws the
 * same bits, one at a time or many. */

enum { LANES = 16, FEW = 1024 };

static inline double normal_of(const uint32_t block[4]) {
    double u = 1.0 - dml_uniform_of(block[0], block[1]); /* (0, 1] */
    double v = dml_uniform_of(block[2], block[3]);
    return sqrt(-2.0 * dml_log64(u)) * dml_cos_turns(v);
}

double dml_rng_normal(struct dml_rng *rng) {
    uint32_t block[4];
    for (int i = 0; i < 4; i++)
        block[i] = dml_rng_bits(rng);
    return normal_of(block);
}

/* Those of the blocks from `first` on. */
static void draw(const struct dml_rng *rng, uint64_t first, double *out, int count) {
    uint32_t words[4][LANES];
    double drawn[LANES];
    for (int i = 0; i < LANES; i++) {
        uint64_t at = first + (uint64_t)i;
        const uint32_t counter[4] = {(uint32_t)at, (uint32_t)(at >> 32), rng->counter[2],
                                     rng->counter[3]};
        uint32_t block[4];
        dml_philox(rng->key, counter, block);
        for (int w = 0; w < 4; w++)
            words[w][i] = block[w];
    }
    for (int i = 0; i < LANES; i++)
        drawn[i] = normal_of((uint32_t[4]){words[0][i], words[1][i], words[2][i], words[3][i]});
    for (int i = 0; i < count; i++)
        out[i] = drawn[i];
}

void dml_rng_normals(struct dml_rng *rng, double *out, size_t count) {
    size_t groups = rng->left ? 0 : (count + LANES - 1) / LANES; /* within a block: one at a time */
    uint64_t first = (uint64_t)rng->counter[1] << 32 | rng->counter[0];
#pragma omp parallel for schedule(static) if (count > FEW)
    for (size_t g = 0; g < groups; g++) {
        size_t at = g * LANES, rest = count - at;
        draw(rng, first + at, out + at, rest < LANES ? (int)rest : LANES);
    }
    if (groups) {
        rng->counter[0] = (uint32_t)(first + count);
        rng->counter[1] = (uint32_t)((first + count) >> 32);
        return;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = dml_rng_normal(rng);
}
