#ifndef DML_NN_WEIGHTS_POSITIONS_H
#define DML_NN_WEIGHTS_POSITIONS_H

#include "nn/graph.h"

/* Position embeddings for another grid of patches than a file's. Each axis is resampled on its own
 * by Keys' cubic convolution, per channel. With s stored patches per side and `new` wanted ones:
 *   plain  scale s / new, a = -0.75, edges repeated: transformers' ViT and Dinov2
 *   dino   as plain, with scale s / (new + 0.1): the code of DINO and DINOv2
 *   timm   antialiased, a = -0.5: timm, open_clip, and DINOv2 with registers
 *
 * stored (prefix + side * side, channels) becomes out (prefix + rows * columns, channels). The
 * first `prefix` rows, and all of them where the grid fits, are copied. Caller owns both arrays. */
enum dml_status dml_positions_resample(enum dml_position_rule rule, size_t prefix, size_t side,
                                       size_t channels, const float *stored, size_t rows,
                                       size_t columns, float *out);

#endif
