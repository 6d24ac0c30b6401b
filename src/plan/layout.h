#ifndef DML_PLAN_LAYOUT_H
#define DML_PLAN_LAYOUT_H

#include <stddef.h>

/* What the values of a tensor are stored as. Feature maps, and their gradients, are bfloat16 with
 * --precision bf16; vectors after global pools are always float32. */
enum plan_element { PLAN_FLOAT32, PLAN_BFLOAT16 };

static inline size_t plan_element_size(enum plan_element element) {
    return element == PLAN_BFLOAT16 ? 2 : 4;
}

/* How the activations of a tensor lie in memory: channels in groups of `block` side by side.
 * Element (image n, channel c, pixel s) is at n * image + (c / block * pixels + s) * block +
 * c % block. Channels that pad the last group are always 0. A block of 1 is plain (n, c, h, w), one
 * of 8 or 16 is oneDNN's nChw8c or nChw16c, and one that holds all channels is (n, h, w, c). */
struct plan_layout {
    int channels, height, width;
    int block, groups;
    size_t pixels; /* height * width */
    size_t image;  /* elements of one image: groups * pixels * block */
    enum plan_element element;
};

static inline struct plan_layout plan_layout_make(int channels, int height, int width, int block,
                                                  enum plan_element element) {
    struct plan_layout layout = {.channels = channels,
                                 .height = height,
                                 .width = width,
                                 .block = block,
                                 .groups = (channels + block - 1) / block,
                                 .pixels = (size_t)height * (size_t)width,
                                 .element = element};
    layout.image = (size_t)layout.groups * layout.pixels * (size_t)block;
    return layout;
}

/* Channels rounded up to whole groups: the length of an array with a value for each channel. */
static inline size_t plan_layout_channels(const struct plan_layout *layout) {
    return (size_t)layout->groups * (size_t)layout->block;
}

/* Elements from an image's start to pixel 0 of `channel`. */
static inline size_t plan_layout_offset(const struct plan_layout *layout, size_t channel) {
    size_t block = (size_t)layout->block;
    return channel / block * layout->pixels * block + channel % block;
}

/* Bytes of n images. */
static inline size_t plan_layout_bytes(const struct plan_layout *layout, size_t n) {
    return n * layout->image * plan_element_size(layout->element);
}

#endif
