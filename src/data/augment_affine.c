#include "data/augment.h"

#include <math.h>
#include <string.h>

/* Samples at (x, y), which lies in the image: values (3). */
typedef void sampler(const uint8_t *in, int width, int height, double x, double y, uint8_t *out);

static void nearest(const uint8_t *in, int width, int height, double x, double y, uint8_t *out) {
    (void)height;
    memcpy(out, in + ((size_t)y * (size_t)width + (size_t)x) * 3, 3);
}

static size_t clip(int at, int size) {
    return (size_t)(at < 0 ? 0 : at < size ? at : size - 1);
}

/* The row at `y`, or the image's nearest one. */
static const uint8_t *row_at(const uint8_t *in, int width, int height, int y) {
    return in + clip(y, height) * (size_t)width * 3;
}

static double line(double a, double b, double at) {
    return a + (b - a) * at;
}

static void bilinear(const uint8_t *in, int width, int height, double x, double y, uint8_t *out) {
    int left = (int)floor(x - 0.5), top = (int)floor(y - 0.5);
    double dx = x - 0.5 - left, dy = y - 0.5 - top;
    const uint8_t *upper = row_at(in, width, height, top);
    const uint8_t *lower = row_at(in, width, height, top + 1);
    size_t a = clip(left, width) * 3, b = clip(left + 1, width) * 3;
    for (size_t c = 0; c < 3; c++)
        out[c] = (uint8_t)line(line(upper[a + c], upper[b + c], dx),
                               line(lower[a + c], lower[b + c], dx), dy);
}

/* Keys' cubic with a = -1 between b and c. In polynomial form, it reproduces equal neighbours
 * exactly. */
static double cubic(double a, double b, double c, double d, double at) {
    double p2 = -a + c, p3 = 2 * (a - b) + c - d, p4 = -a + b - c + d;
    return b + at * (p2 + at * (p3 + at * p4));
}

static void bicubic(const uint8_t *in, int width, int height, double x, double y, uint8_t *out) {
    int left = (int)floor(x - 0.5), top = (int)floor(y - 0.5);
    double dx = x - 0.5 - left, dy = y - 0.5 - top;
    for (size_t c = 0; c < 3; c++) {
        double v[4];
        for (int k = 0; k < 4; k++) {
            const uint8_t *row = row_at(in, width, height, top - 1 + k);
            v[k] =
                cubic(row[clip(left - 1, width) * 3 + c], row[clip(left, width) * 3 + c],
                      row[clip(left + 1, width) * 3 + c], row[clip(left + 2, width) * 3 + c], dx);
        }
        double value = cubic(v[0], v[1], v[2], v[3], dy);
        out[c] = (uint8_t)(value <= 0 ? 0 : value >= 255 ? 255 : value);
    }
}

static int64_t fixed(double value) {
    return (int64_t)floor(value * 65536 + 0.5);
}

/* Whether the output's corners come from where 16 bits before the point are enough. */
static bool fits_fixed(int width, int height, const double m[6]) {
    for (int corner = 0; corner < 4; corner++) {
        double x = corner & 1 ? width - 1 : 0, y = corner & 2 ? height - 1 : 0;
        if (!(fabs(m[0] * x + m[1] * y + m[2]) < 32768 && fabs(m[3] * x + m[4] * y + m[5]) < 32768))
            return false;
    }
    return true;
}

/* The nearest pixel, found in steps of 1/65536 as Pillow does: of pixel centres that come from an
 * edge between pixels, as with a shear by 0.2, its rounding decides which of the two is taken. */
static void nearest_fixed(const uint8_t *in, int width, int height, const double m[6],
                          uint8_t *out) {
    const int64_t along_x = fixed(m[0]), along_y = fixed(m[3]);
    const int64_t down_x = fixed(m[1]), down_y = fixed(m[4]);
    const int64_t first_x = fixed(m[2] + m[0] * 0.5 + m[1] * 0.5);
    const int64_t first_y = fixed(m[5] + m[3] * 0.5 + m[4] * 0.5);
    for (int row = 0; row < height; row++)
        for (int column = 0; column < width; column++, out += 3) {
            int64_t x = first_x + row * down_x + column * along_x;
            int64_t y = first_y + row * down_y + column * along_y;
            bool inside =
                x >= 0 && x < (int64_t)width * 65536 && y >= 0 && y < (int64_t)height * 65536;
            if (inside)
                memcpy(out, in + ((size_t)(y >> 16) * (size_t)width + (size_t)(x >> 16)) * 3, 3);
            else
                memset(out, 0, 3);
        }
}

void dml_augment_affine(const uint8_t *in, int width, int height, const double m[6],
                        enum dml_interpolation interpolation, uint8_t *out) {
    bool straight = m[1] == 0 && m[3] == 0;
    if (interpolation == DML_NEAREST && !straight && fits_fixed(width, height, m)) {
        nearest_fixed(in, width, height, m, out);
        return;
    }
    sampler *sample = interpolation == DML_NEAREST    ? nearest
                      : interpolation == DML_BILINEAR ? bilinear
                                                      : bicubic;
    for (int row = 0; row < height; row++)
        for (int column = 0; column < width; column++, out += 3) {
            double x = column + 0.5, y = row + 0.5;
            double from_x = m[0] * x + m[1] * y + m[2], from_y = m[3] * x + m[4] * y + m[5];
            if (from_x >= 0 && from_x < width && from_y >= 0 && from_y < height)
                sample(in, width, height, from_x, from_y, out);
            else
                memset(out, 0, 3);
        }
}

static void set(double m[6], double a, double b, double c, double d, double e, double f) {
    const double values[6] = {a, b, c, d, e, f};
    memcpy(m, values, sizeof values);
}

void dml_augment_shear_x(double by, double m[6]) {
    set(m, 1, by, 0, 0, 1, 0);
}

void dml_augment_shear_y(double by, double m[6]) {
    set(m, 1, 0, 0, by, 1, 0);
}

void dml_augment_translate(double x, double y, double m[6]) {
    set(m, 1, 0, -x, 0, 1, -y);
}

/* To 15 decimals, as Pillow rounds. */
static double rounded(double value) {
    return nearbyint(value * 1e15) / 1e15;
}

void dml_augment_rotate(double degrees, int width, int height, double m[6]) {
    const double pi = 3.14159265358979323846;
    double turn = fmod(degrees, 360), x = width / 2.0, y = height / 2.0;
    double angle = -(turn < 0 ? turn + 360 : turn) * pi / 180;
    double c = rounded(cos(angle)), s = rounded(sin(angle));
    set(m, c, s, c * -x + s * -y + x, -s, c, -s * -x + c * -y + y);
}
