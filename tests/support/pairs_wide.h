#ifndef TESTS_SUPPORT_PAIRS_WIDE_H
#define TESTS_SUPPORT_PAIRS_WIDE_H

#include "backends/cpu/pairs.h"

/* Tiles of the size that AVX-512 has, on any processor. */
const struct cpu_pairs *cpu_pairs_wide(void);

#endif
