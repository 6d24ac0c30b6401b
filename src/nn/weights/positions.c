#include "nn/weights/positions.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Keys 1981, Cubic convolution interpolation for digital image processing. */
static double cubic(double x, double a) {
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    return 0;
}

static size_t clamp(double j, size_t side) {
    return j < 0 ? 0 : j > (double)(side - 1) ? side - 1 : (size_t)j;
}

/* Four neighbours, those beyond the edge taken at the edge. */
static void plain_row(size_t i, size_t side, double scale, double *weights) {
    double x = scale * ((double)i + 0.5) - 0.5, f = floor(x);
    for (double j = f - 1; j <= f + 2; j++)
        weights[clamp(j, side)] += cubic(x - j, -0.75);
}

/* A window that grows with the scale, those beyond the edge left out. */
static void antialiased_row(size_t i, size_t side, double scale, double *weights) {
    double m = fmax(scale, 1), centre = scale * ((double)i + 0.5), sum = 0;
    double first = fmax(0, trunc(centre - 2 * m + 0.5));
    double end = fmin((double)side, trunc(centre + 2 * m + 0.5));
    for (double j = first; j < end; j++)
        sum += weights[(size_t)j] = cubic((j - centre + 0.5) / m, -0.5);
    for (double j = first; j < end; j++)
        weights[(size_t)j] /= sum;
}

/* (wanted, side) weights of one axis, in new memory; NULL if there is none. */
static double *axis(enum dml_position_rule rule, size_t side, size_t wanted) {
    double *weights = dml_alloc(wanted * side, sizeof *weights);
    double offset = rule == DML_POSITIONS_DINO ? 0.1 : 0;
    double scale = (double)side / ((double)wanted + offset);
    for (size_t i = 0; weights && i < wanted; i++) {
        if (rule == DML_POSITIONS_TIMM)
            antialiased_row(i, side, scale, weights + i * side);
        else
            plain_row(i, side, scale, weights + i * side);
    }
    return weights;
}

/* One row of the new grid: first down, then across. `line` (side, channels). */
static void resample_row(const double *down, const double *across, size_t side, size_t channels,
                         const float *grid, size_t columns, double *line, float *out) {
    memset(line, 0, side * channels * sizeof *line);
    for (size_t r = 0; r < side; r++)
        for (size_t k = 0; down[r] != 0 && k < side * channels; k++)
            line[k] += down[r] * grid[r * side * channels + k];
    for (size_t x = 0; x < columns; x++)
        for (size_t c = 0; c < channels; c++) {
            double sum = 0;
            for (size_t s = 0; s < side; s++)
                sum += across[x * side + s] * line[s * channels + c];
            out[x * channels + c] = (float)sum;
        }
}

enum dml_status dml_positions_resample(enum dml_position_rule rule, size_t prefix, size_t side,
                                       size_t channels, const float *stored, size_t rows,
                                       size_t columns, float *out) {
    memcpy(out, stored, prefix * channels * sizeof *out);
    const float *grid = stored + prefix * channels;
    float *target = out + prefix * channels;
    if (rows == side && columns == side) {
        memcpy(target, grid, side * side * channels * sizeof *target);
        return DML_OK;
    }
    double *down = axis(rule, side, rows), *across = axis(rule, side, columns);
    double *line = dml_alloc(side * channels, sizeof *line);
    bool there = down && across && line;
    for (size_t r = 0; there && r < rows; r++)
        resample_row(down + r * side, across, side, channels, grid, columns, line,
                     target + r * columns * channels);
    free(down);
    free(across);
    free(line);
    return there ? DML_OK : DML_ERROR_MEMORY;
}
