#ifndef DML_MATH_MT19937_H
#define DML_MATH_MT19937_H

#include <stdint.h>

/* The 32-bit Mersenne Twister (Matsumoto and Nishimura 1998), which gives the numbers of C++'s
 * std::mt19937. Only for starting where another program starts; everything else draws from dml_rng.
 */
struct dml_mt19937 {
    uint32_t words[624];
    int next;
};

struct dml_mt19937 dml_mt19937_make(uint32_t seed);
uint32_t dml_mt19937_draw(struct dml_mt19937 *generator);

#endif
