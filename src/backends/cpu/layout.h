#ifndef DML_CPU_LAYOUT_H
#define DML_CPU_LAYOUT_H

#include <stddef.h>

/* How the activations of a tensor lie in memory: channels in groups of `block` side by side,
 * oneDNN's nChw8c or nChw16c. Element (image n, channel c, pixel s) is at
 * n * image + (c / block * pixels + s) * block + c % block. Channels that fill up the last group
 * are always 0. The network's input has block 1, which is plain (n, c, h, w). */
struct cpu_layout {
    int channels, height, width;
    int block, groups;
    size_t pixels; /* height * width */
    size_t image;  /* floats of one image: groups * pixels * block */
};

static inline struct cpu_layout cpu_layout_make(int channels, int height, int width, int block) {
    struct cpu_layout layout = {.channels = channels,
                                .height = height,
                                .width = width,
                                .block = block,
                                .groups = (channels + block - 1) / block,
                                .pixels = (size_t)height * (size_t)width};
    layout.image = (size_t)layout.groups * layout.pixels * (size_t)block;
    return layout;
}

#endif
