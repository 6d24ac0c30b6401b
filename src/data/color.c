#include "data/color.h"

/* ITU-R 601 in 16 fractional bits. */
static inline unsigned luma(const uint8_t *pixel) {
    return (pixel[0] * 19595u + pixel[1] * 38470u + pixel[2] * 7471u + 0x8000u) >> 16;
}

/* Truncates, so the float arithmetic must round where Pillow's does, after the product and after
 * the sum: double holds both exactly, and no compiler can contract them across the casts. */
static inline uint8_t blend(int from, int to, float factor) {
    float change = (float)((double)factor * (to - from));
    float value = (float)((double)from + change);
    return (uint8_t)(value <= 0 ? 0 : value >= 255 ? 255 : value);
}

uint8_t dml_color_blend(int from, int to, float factor) {
    return blend(from, to, factor);
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

/* Hue is changed a block at a time, one channel after another and without branches, so that the
 * compiler can use vectors. */
enum { BLOCK = 256 };
struct block {
    int32_t red[BLOCK], green[BLOCK], blue[BLOCK];
    int32_t hue[BLOCK], saturation[BLOCK], value[BLOCK]; /* 0..255 */
};

/* Pillow's rounding: some steps in float, some in double, truncated to bytes. */
static void to_hsv(struct block *block) {
    for (int i = 0; i < BLOCK; i++) {
        int32_t r = block->red[i], g = block->green[i], b = block->blue[i];
        int32_t most = r > g ? r : g, least = r < g ? r : g;
        most = most > b ? most : b;
        least = least < b ? least : b;
        int32_t apart = most - least;
        float range = (float)(apart ? apart : 1), bright = (float)(most ? most : 1);
        float red = (float)(most - r) / range, green = (float)(most - g) / range,
              blue = (float)(most - b) / range;
        float from_red = blue - green, from_green = (float)(2.0 + red - blue),
              from_blue = (float)(4.0 + green - red);
        float sixths = g == most ? from_green : from_blue;
        sixths = r == most ? from_red : sixths;
        double turn = sixths / 6.0 + 1.0; /* in 5/6..11/6 */
        float hue = (float)(turn >= 1 ? turn - 1 : turn);
        float saturation = (float)apart / bright;
        block->hue[i] = apart ? (int32_t)(hue * 255.0) : 0;
        block->saturation[i] = (int32_t)(saturation * 255.0);
        block->value[i] = most;
    }
}

/* Like ?:, which would become a jump. */
static inline int32_t pick(int32_t condition, int32_t yes, int32_t no) {
    return (yes & -condition) | (no & ~-condition);
}

static void to_rgb(struct block *block) {
    for (int i = 0; i < BLOCK; i++) {
        int32_t v = block->value[i];
        float sixths = (float)((float)block->hue[i] * 6.0 / 255.0);
        float saturation = (float)((float)block->saturation[i] / 255.0);
        int32_t sector = (int32_t)sixths; /* 6 for the last hue, where rest is 0 */
        float rest = sixths - (float)sector;
        float falling = saturation * rest;
        double rising = saturation * (1.0 - rest);
        int32_t p = (int32_t)(v * (1.0 - saturation) + 0.5);
        int32_t q = (int32_t)(v * (1.0 - falling) + 0.5);
        int32_t t = (int32_t)(v * (1.0 - rising) + 0.5);
        int32_t red = pick(sector == 1, q, pick(sector == 4, t, p));
        int32_t green = pick((sector == 0) | (sector == 6), t, pick(sector == 3, q, p));
        int32_t blue = pick(sector == 2, t, pick(sector == 5, q, p));
        red = pick((sector == 0) | (sector >= 5), v, red);
        green = pick((sector == 1) | (sector == 2), v, green);
        blue = pick((sector == 3) | (sector == 4), v, blue);
        block->red[i] = red;
        block->green[i] = green;
        block->blue[i] = blue;
    }
}

void dml_color_hue(uint8_t *pixels, size_t count, double shift) {
    int32_t turn = (uint8_t)(int)(shift * 255); /* truncated, then modulo 256 */
    struct block block = {.red = {0}};
    for (size_t done = 0; done < count; done += BLOCK, pixels += 3 * BLOCK) {
        size_t n = count - done < BLOCK ? count - done : BLOCK;
        for (size_t i = 0; i < n; i++) {
            block.red[i] = pixels[3 * i];
            block.green[i] = pixels[3 * i + 1];
            block.blue[i] = pixels[3 * i + 2];
        }
        to_hsv(&block);
        for (int i = 0; i < BLOCK; i++)
            block.hue[i] = (block.hue[i] + turn) & 255;
        to_rgb(&block);
        for (size_t i = 0; i < n; i++) {
            pixels[3 * i] = (uint8_t)block.red[i];
            pixels[3 * i + 1] = (uint8_t)block.green[i];
            pixels[3 * i + 2] = (uint8_t)block.blue[i];
        }
    }
}
