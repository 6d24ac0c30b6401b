#ifndef DML_CPU_LAYOUT_H
#define DML_CPU_LAYOUT_H

#include <stddef.h>

/* What the values of a tensor are stored as. Feature maps, and their gradients, are bfloat16 with
 * --precision bf16; vectors behind global pools are float32 always. */
enum cpu_element { CPU_FLOAT32, CPU_BFLOAT16 };

static inline size_t cpu_element_size(enum cpu_element element) {
    return element == CPU_BFLOAT16 ? 2 : 4;
}

/* How the activations of a tensor lie in memory: channels in groups of `block` side by side,
 * oneDNN's nChw8c or nChw16c. Element (image n, channel c, pixel s) is at
 * n * image + (c / block * pixels + s) * block + c % block. Channels that fill up the last group
 * are always 0. The network's input has block 1, which is plain (n, c, h, w). */
struct cpu_layout {
    int channels, height, width;
    int block, groups;
    size_t pixels; /* height * width */
    size_t image;  /* elements of one image: groups * pixels * block */
    enum cpu_element element;
};

static inline struct cpu_layout cpu_layout_make(int channels, int height, int width, int block,
                                                enum cpu_element element) {
    struct cpu_layout layout = {.channels = channels,
                                .height = height,
                                .width = width,
                                .block = block,
                                .groups = (channels + block - 1) / block,
                                .pixels = (size_t)height * (size_t)width,
                                .element = element};
    layout.image = (size_t)layout.groups * layout.pixels * (size_t)block;
    return layout;
}

/* Channels in whole groups: the values in an array of one for each channel. */
static inline size_t cpu_layout_channels(const struct cpu_layout *layout) {
    return (size_t)layout->groups * (size_t)layout->block;
}

/* Sizes rounded up to multiples of 64 bytes, so that what lies behind stays aligned. */
static inline size_t cpu_aligned_bytes(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}
static inline size_t cpu_aligned_floats(size_t floats) {
    return (floats + 15) / 16 * 16;
}

/* Bytes of n images. */
static inline size_t cpu_layout_bytes(const struct cpu_layout *layout, size_t n) {
    return n * layout->image * cpu_element_size(layout->element);
}

#endif
