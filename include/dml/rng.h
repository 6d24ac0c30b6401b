#ifndef DML_RNG_H
#define DML_RNG_H

#include "dml/api.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a
 * counter-based generator. A stream is named by a seed, a purpose and two indices, so what is drawn
 * for image i in epoch e depends neither on the thread that draws it nor on what was drawn before.
 */
enum dml_purpose {
    DML_PURPOSE_INIT = 1,  /* weights: (parameter, 0) */
    DML_PURPOSE_SAMPLER,   /* (epoch, batch) */
    DML_PURPOSE_AUGMENT,   /* (epoch, position in the epoch) */
    DML_PURPOSE_MINER,     /* (step, 0) */
    DML_PURPOSE_CRITERION, /* (step, 0), or for initial proxies (0, parameter) */
    DML_PURPOSE_SPLIT = 7, /* train and validation: (class, 0) */
    DML_PURPOSE_OTHER,
    DML_PURPOSE_DROP_PATH, /* (step, node and image of the batch) */
};

struct dml_rng {
    uint32_t key[2];
    uint32_t counter[4];
    uint32_t block[4]; /* drawn, not yet handed out */
    int left;
};

DML_API struct dml_rng dml_rng_make(uint64_t seed, enum dml_purpose purpose, uint64_t first,
                                    uint64_t second);
DML_API uint32_t dml_rng_bits(struct dml_rng *rng);
DML_API uint64_t dml_rng_below(struct dml_rng *rng,
                               uint64_t n);          /* uniform in 0..n-1, n >= 1, unbiased */
DML_API double dml_rng_uniform(struct dml_rng *rng); /* [0, 1) with 53 bits */
DML_API double dml_rng_normal(struct dml_rng *rng);  /* mean 0, variance 1 */

/* out (count): what as many calls of dml_rng_normal return, to the bit, on all threads. */
DML_API void dml_rng_normals(struct dml_rng *rng, double *out, size_t count);

/* Index drawn with probability weights[i] / sum; weights are >= 0. Returns n when all are 0. */
DML_API size_t dml_rng_choice(struct dml_rng *rng, const double *weights, size_t n);

/* Writes k distinct values from 0..n-1 (k <= n) in random order, with O(k) memory. */
DML_API void dml_rng_distinct(struct dml_rng *rng, uint64_t n, size_t k, uint64_t *out);

#ifdef __cplusplus
}
#endif
#endif
