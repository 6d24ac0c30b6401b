#ifndef DML_MATH_MT19937_H
#define DML_MATH_MT19937_H

#include <stdint.h>

/* The Mersenne Twister with 32 bits (Matsumoto and Nishimura 1998), the numbers of C++'s
 * std::mt19937. Only to start where another program starts; all else draws from dml_rng. */
struct dml_mt19937 {
    uint32_t words[624];
    int next;
};

struct dml_mt19937 dml_mt19937_make(uint32_t seed);
uint32_t dml_mt19937_draw(struct dml_mt19937 *generator);

#endif
