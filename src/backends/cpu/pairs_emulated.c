#include "backends/cpu/pairs.h"

#include "math/panels.h"

enum { LANES = DML_PANEL / 2, ROWS = DML_PANEL_ROWS };
#include "backends/cpu/pairs_emulation.h"
#define PAIRS cpu_pairs_emulated
#include "backends/cpu/pairs_body.h"
