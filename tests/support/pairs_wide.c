#include "support/pairs_wide.h"

enum { LANES = 16, ROWS = 12 };
#include "backends/cpu/pairs_emulation.h"
#define PAIRS cpu_pairs_wide
#include "backends/cpu/pairs_body.h"
