#ifndef DML_CUDA_USABLE_H
#define DML_CUDA_USABLE_H

#include "backends/cuda/device.h"

/* Whether any card can be used with these versions, and whether this card can; if not, one line
 * says why (CUDA_REASON bytes). */
bool cuda_usable_versions(const struct cuda_versions *versions, char *reason);
bool cuda_usable_card(const struct cuda_card *card, char *reason);

#endif
