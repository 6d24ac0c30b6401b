#include "data/color.h"

#include <math.h>

/* ITU-R 601 in 16 fractional bits. */
static inline unsigned luma(const uint8_t *pixel) {
    return (pixel[0] * 19595u + pixel[1] * 38470u + pixel[2] * 7471u + 0x8000u) >> 16;
}

/* From `from` towards `to` by `factor`, and beyond it for factors over 1. Truncates, so the
 * float arithmetic must round as Pillow's does, after the product and after the sum: double holds
 * both exactly, and no compiler can contract them across the casts. */
static inline uint8_t blend(int from, int to, float factor) {
    float change = (float)((double)factor * (to - from));
    float value = (float)((double)from + change);
    return (uint8_t)(value <= 0 ? 0 : value >= 255 ? 255 : value);
}

void dml_color_gray(uint8_t *pixels, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint8_t *pixel = pixels + 3 * i;
        pixel[0] = pixel[1] = pixel[2] = (uint8_t)luma(pixel);
    }
}

static void blend_with(uint8_t *pixels, size_t count, int level, float factor) {
    uint8_t table[256];
    for (int i = 0; i < 256; i++)
        table[i] = blend(level, i, factor);
    for (size_t i = 0; i < 3 * count; i++)
        pixels[i] = table[pixels[i]];
}

void dml_color_brightness(uint8_t *pixels, size_t count, float factor) {
    blend_with(pixels, count, 0, factor);
}

void dml_color_contrast(uint8_t *pixels, size_t count, float factor) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += luma(pixels + 3 * i);
    blend_with(pixels, count, (int)((double)sum / (double)count + 0.5), factor);
}

void dml_color_saturation(uint8_t *pixels, size_t count, float factor) {
    for (size_t i = 0; i < count; i++) {
        uint8_t *pixel = pixels + 3 * i;
        int gray = (int)luma(pixel);
        for (int c = 0; c < 3; c++)
            pixel[c] = blend(gray, pixel[c], factor);
    }
}

static inline uint8_t clipped(int value) {
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Hue, saturation and value in 0..255, with Pillow's rounding. */
static void to_hsv(const uint8_t *rgb, uint8_t *hsv) {
    uint8_t r = rgb[0], g = rgb[1], b = rgb[2];
    uint8_t most = r > g ? r : g, least = r < g ? r : g;
    most = most > b ? most : b;
    least = least < b ? least : b;
    hsv[0] = hsv[1] = 0;
    hsv[2] = most;
    if (most == least)
        return;
    float range = (float)(most - least);
    float saturation = range / (float)most;
    float red = (float)(most - r) / range, green = (float)(most - g) / range,
          blue = (float)(most - b) / range;
    float hue;
    if (r == most)
        hue = blue - green;
    else if (g == most)
        hue = (float)(2.0 + red - blue);
    else
        hue = (float)(4.0 + green - red);
    double turn = hue / 6.0 + 1.0; /* in 5/6..11/6 */
    hue = (float)(turn >= 1 ? turn - 1 : turn);
    hsv[0] = clipped((int)(hue * 255.0));
    hsv[1] = clipped((int)(saturation * 255.0));
}

static void to_rgb(const uint8_t *hsv, uint8_t *rgb) {
    uint8_t v = hsv[2];
    if (hsv[1] == 0) {
        rgb[0] = rgb[1] = rgb[2] = v;
        return;
    }
    float sixths = (float)((float)hsv[0] * 6.0 / 255.0);
    float saturation = (float)((float)hsv[1] / 255.0);
    int sector = (int)sixths; /* not negative */
    float rest = sixths - (float)sector;
    uint8_t p = clipped((int)round((float)v * (1.0 - saturation)));
    uint8_t q = clipped((int)round((float)v * (1.0 - saturation * rest)));
    uint8_t t = clipped((int)round((float)v * (1.0 - saturation * (1.0 - rest))));
    const uint8_t sectors[6][3] = {{v, t, p}, {q, v, p}, {p, v, t},
                                   {p, q, v}, {t, p, v}, {v, p, q}};
    for (int c = 0; c < 3; c++)
        rgb[c] = sectors[sector % 6][c];
}

void dml_color_hue(uint8_t *pixels, size_t count, double shift) {
    uint8_t turn = (uint8_t)(int)(shift * 255); /* truncated, then modulo 256 */
    for (size_t i = 0; i < count; i++) {
        uint8_t hsv[3];
        to_hsv(pixels + 3 * i, hsv);
        hsv[0] = (uint8_t)(hsv[0] + turn);
        to_rgb(hsv, pixels + 3 * i);
    }
}
