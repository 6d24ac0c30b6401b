#include "data/augment.h"
#include "data/color.h"

#include <string.h>

void dml_augment_sharpness(uint8_t *pixels, int width, int height, float factor, uint8_t *smooth) {
    size_t row = (size_t)width * 3, bytes = row * (size_t)height;
    memcpy(smooth, pixels, bytes); /* the border stays */
    for (int y = 1; y + 1 < height; y++)
        for (size_t i = 3; i + 3 < row; i++) {
            const uint8_t *at = pixels + (size_t)y * row + i;
            unsigned sum = 4u * *at;
            for (const uint8_t *line = at - row; line <= at + row; line += row)
                sum += (unsigned)line[-3] + line[0] + line[3];
            smooth[(size_t)y * row + i] = (uint8_t)((2 * sum + 13) / 26);
        }
    for (size_t i = 0; i < bytes; i++)
        pixels[i] = dml_color_blend(smooth[i], pixels[i], factor);
}

static void apply_to_all(uint8_t *pixels, size_t count, const uint8_t table[256]) {
    for (size_t i = 0; i < 3 * count; i++)
        pixels[i] = table[pixels[i]];
}

void dml_augment_posterize(uint8_t *pixels, size_t count, int bits) {
    uint8_t table[256];
    for (int v = 0; v < 256; v++)
        table[v] = (uint8_t)(v & ~((1 << (8 - bits)) - 1));
    apply_to_all(pixels, count, table);
}

void dml_augment_solarize(uint8_t *pixels, size_t count, double threshold) {
    uint8_t table[256];
    for (int v = 0; v < 256; v++)
        table[v] = (uint8_t)(v < threshold ? v : 255 - v);
    apply_to_all(pixels, count, table);
}

void dml_augment_invert(uint8_t *pixels, size_t count) {
    dml_augment_solarize(pixels, count, 0);
}

static void count_levels(const uint8_t *channel, size_t count, size_t levels[256]) {
    memset(levels, 0, 256 * sizeof *levels);
    for (size_t i = 0; i < count; i++)
        levels[channel[3 * i]]++;
}

static void apply_to_channel(uint8_t *channel, size_t count, const uint8_t table[256]) {
    for (size_t i = 0; i < count; i++)
        channel[3 * i] = table[channel[3 * i]];
}

static void autocontrast(uint8_t *channel, size_t count) {
    size_t levels[256];
    uint8_t table[256];
    count_levels(channel, count, levels);
    int low = 0, high = 255;
    while (low < 255 && levels[low] == 0)
        low++;
    while (high > 0 && levels[high] == 0)
        high--;
    if (high <= low)
        return;
    double scale = 255.0 / (high - low), offset = -low * scale;
    for (int v = 0; v < 256; v++) {
        double value = v * scale + offset;
        table[v] = (uint8_t)(value <= 0 ? 0 : value >= 255 ? 255 : value);
    }
    apply_to_channel(channel, count, table);
}

static void equalize(uint8_t *channel, size_t count) {
    size_t levels[256], step = count, below;
    uint8_t table[256];
    count_levels(channel, count, levels);
    int brightest = 255;
    while (brightest > 0 && levels[brightest] == 0)
        brightest--;
    step = (count - levels[brightest]) / 255;
    if (step == 0)
        return;
    below = step / 2;
    for (int v = 0; v < 256; v++) {
        size_t value = below / step;
        table[v] = (uint8_t)(value < 255 ? value : 255);
        below += levels[v];
    }
    apply_to_channel(channel, count, table);
}

void dml_augment_autocontrast(uint8_t *pixels, size_t count) {
    for (int c = 0; c < 3; c++)
        autocontrast(pixels + c, count);
}

void dml_augment_equalize(uint8_t *pixels, size_t count) {
    for (int c = 0; c < 3; c++)
        equalize(pixels + c, count);
}
