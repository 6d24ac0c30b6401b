#include "math/above.h"

#include <string.h>

enum { LANES = 16, FEW = 8, RANGE = 31000, MOST = 32000, NEVER = 32767 };

/* Lanes of the compiler's own vectors: true is -1 in a lane. */
typedef int16_t lanes __attribute__((vector_size(32), may_alias));
typedef int32_t words __attribute__((vector_size(32), may_alias));
typedef float floats __attribute__((vector_size(32), may_alias));

/* Rounds to 16 bits, never changing the order; NaN, which stale values may be, becomes anything. */
static int32_t round_value(float value, float middle, float scale) {
    float scaled = (value - middle) * scale;
    scaled = scaled < MOST ? scaled : MOST;
    return (int32_t)(scaled > -MOST ? scaled : -MOST);
}

/* A rounded value greater than above[p] is surely above level p; one greater than below[p] may be.
 */
static void round_levels(struct dml_above *work, size_t levels, float error, float middle,
                         float scale) {
    size_t padded = (levels + LANES - 1) / LANES * LANES;
    for (size_t p = 0; p < levels; p++)
        work->above[p] = (int16_t)round_value(work->level[p] + error, middle, scale);
    for (size_t p = 0; p < levels; p++)
        work->below[p] = (int16_t)(round_value(work->level[p] - error, middle, scale) - 1);
    for (size_t p = levels; p < padded; p++)
        work->above[p] = work->below[p] = NEVER;
}

/* Values as 16 bits, twice in 32, so that loading one into all lanes costs nothing. */
static void round_values(struct dml_above *work, size_t count, float middle, float scale) {
    size_t padded = (count + FEW - 1) / FEW; /* whole vectors: there is room */
    for (size_t v = 0; v < padded; v++)
        for (size_t c = v * FEW; c < (v + 1) * FEW; c++) {
            uint32_t value = (uint32_t)round_value(work->value[c], middle, scale);
            work->coarse[c] = (int32_t)((value & 0xffff) | value << 16);
        }
}

static bool differ(const void *a, const void *b) {
    int64_t x[4], y[4];
    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3])) != 0;
}

/* Sixteen levels from `first` on. */
static bool count_group(struct dml_above *work, size_t count, size_t first) {
    lanes above, below, sure = {0}, may = {0};
    memcpy(&above, work->above + first, sizeof above);
    memcpy(&below, work->below + first, sizeof below);
    const int32_t *coarse = work->coarse;
#pragma GCC unroll 4
    for (size_t c = 0; c < count; c++) {
        lanes value = (lanes)(coarse[c] - (words){0});
        sure -= value > above;
        may -= value > below;
    }
    memcpy(work->surely + first, &sure, sizeof sure);
    memcpy(work->maybe + first, &may, sizeof may);
    return differ(&sure, &may);
}

/* Up to eight levels, with values as they are: most queries have no more, and few values. */
static bool count_few(struct dml_above *work, size_t count, const float *level, size_t levels,
                      float error) {
    floats above, below;
    words sure = {0}, may = {0};
    for (size_t p = 0; p < FEW; p++) {
        above[p] = p < levels ? level[p] + error : __builtin_inff();
        below[p] = p < levels ? level[p] - error : __builtin_inff();
    }
    for (size_t c = 0; c < count; c++) {
        floats all = work->value[c] - (floats){0};
        sure -= all > above;
        may -= all >= below;
    }
    for (size_t p = 0; p < FEW; p++) {
        work->surely[p] = (int16_t)sure[p];
        work->maybe[p] = (int16_t)may[p];
    }
    return differ(&sure, &may);
}

bool dml_count_above(struct dml_above *work, size_t count, const float *level, size_t levels,
                     float error) {
    if (levels <= FEW)
        return count_few(work, count, level, levels, error);
    float low = level[levels - 1] - error, span = level[0] + error - low;
    float middle = low + span / 2, scale = span > 1e-25f ? 2 * RANGE / span : 1;
    bool unsure = false;
    memcpy(work->level, level, levels * sizeof *level);
    round_levels(work, levels, error, middle, scale);
    round_values(work, count, middle, scale);
    for (size_t first = 0; first < levels; first += LANES)
        unsure |= count_group(work, count, first);
    return unsure;
}
