#include "backends/cuda/images.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* What pixel values become, for each channel. */
enum { TABLE = 3 * 256, TABLE_BYTES = TABLE * sizeof(float) };

static size_t plane_of(const struct dml_graph *graph) {
    const struct dml_node *input = &graph->nodes[0];
    return (size_t)input->height * (size_t)input->width;
}

/* Where the pixels begin: after the table and a rectangle for each image. */
static size_t pixels_at(size_t n) {
    return TABLE_BYTES + (n * 4 * sizeof(int) + 255) / 256 * 256;
}

size_t cuda_images_bytes(const struct dml_graph *graph, size_t n) {
    return pixels_at(n) + n * 3 * plane_of(graph) * sizeof(float);
}

bool cuda_images_need(struct cuda_images *images, const struct cuda_on *on,
                      const struct dml_graph *graph, size_t n) {
    if (n <= images->n)
        return true;
    cuda_images_free(images, on);
    images->host = dml_alloc(pixels_at(n), 1);
    images->memory = on->api->alloc(on->device, cuda_images_bytes(graph, n));
    images->n = images->host && images->memory ? n : 0;
    return images->n > 0;
}

void cuda_images_free(struct cuda_images *images, const struct cuda_on *on) {
    on->api->release(on->device, images->memory);
    free(images->host);
    *images = (struct cuda_images){0};
}

/* value = (pixel / 255 - mean) / std in float32 as torchvision computes it, for each channel of the
 * network and each of the 256 pixel values. */
static void fill_table(const struct dml_input_transform *transform, const struct dml_node *affine,
                       const int source[3], float *table) {
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) {
            float value = (float)v / 255.0f;
            value = (value - transform->mean[source[c]]) / transform->std[source[c]];
            table[c * 256 + v] = affine ? value * affine->scale[c] + affine->shift[c] : value;
        }
}

static void upload_table(struct cuda_images *images, const struct cuda_on *on,
                         const struct dml_input_transform *transform, const struct dml_node *affine,
                         const int source[3]) {
    float *table = (float *)images->host;
    fill_table(transform, affine, source, table);
    on->api->upload(on->device, images->memory, table, TABLE_BYTES);
}

/* n rectangles: left, top, width and height of what is 0 in an image. */
static const int *upload_erased(struct cuda_images *images, const struct cuda_on *on,
                                const struct dml_rect *erased, size_t n) {
    char *to = images->memory + TABLE_BYTES;
    int *list = (int *)(images->host + TABLE_BYTES);
    for (size_t i = 0; i < n; i++) {
        const int values[4] = {erased[i].left, erased[i].top, erased[i].width, erased[i].height};
        memcpy(list + 4 * i, values, sizeof values);
    }
    on->api->upload(on->device, to, list, n * 4 * sizeof *list);
    return (const int *)to;
}

/* Bytes of an image, and where image `first` is. */
static size_t image_bytes(const struct dml_images *images) {
    return 3 * (size_t)images->height * (size_t)images->width *
           (images->pixels ? sizeof *images->pixels : sizeof *images->input);
}
static const char *image_at(const struct dml_images *images, size_t first) {
    const char *all = images->pixels ? (const char *)images->pixels : (const char *)images->input;
    return all + first * image_bytes(images);
}

/* The pixels of a pass, of which perhaps a copy is under way. */
static char *pixels_of(struct cuda_images *images, const struct cuda_on *on,
                       const struct dml_planned_pass *pass) {
    char *to = images->memory + pixels_at(images->n);
    const char *from = image_at(pass->images, pass->first);
    size_t bytes = pass->plan->n * image_bytes(pass->images);
    bool there = pass->fetched && images->from == from && images->bytes >= bytes;
    if (images->from)
        on->api->await_uploads(on->device);
    images->from = NULL;
    if (!there)
        on->api->upload(on->device, to, from, bytes);
    return to;
}

/* As many of the next images as there is memory for: the next pass wants no more. */
static void fetch_next(struct cuda_images *images, const struct cuda_on *on,
                       const struct dml_planned_pass *pass) {
    if (!pass->next)
        return;
    size_t left = pass->next->n - pass->next_first, n = left < images->n ? left : images->n;
    images->from = image_at(pass->next, pass->next_first);
    images->bytes = n * image_bytes(pass->next);
    on->api->upload_ahead(on->device, images->memory + pixels_at(images->n), images->from,
                          images->bytes);
}

void cuda_images_input(struct cuda_images *images, const struct cuda_on *on,
                       const struct dml_planned_pass *pass, const struct dml_node *affine,
                       size_t stride, bool narrow, void *out) {
    const struct dml_images *batch = pass->images;
    const struct dml_input_transform *transform = &pass->plan->graph->input;
    struct cuda_input in = {.table = (float *)images->memory,
                            .n = pass->plan->n,
                            .height = (size_t)batch->height,
                            .width = (size_t)batch->width,
                            .stride = stride,
                            .narrow = narrow};
    for (int c = 0; c < 3; c++) {
        in.source[c] = transform->bgr ? 2 - c : c;
        in.scale[c] = affine ? affine->scale[c] : 1.0f;
        in.shift[c] = affine ? affine->shift[c] : 0.0f;
    }
    char *pixels = pixels_of(images, on, pass);
    if (batch->pixels) {
        upload_table(images, on, transform, affine, in.source);
        in.pixels = (uint8_t *)pixels;
    } else {
        in.floats = (float *)pixels;
    }
    if (batch->erased)
        in.erased = upload_erased(images, on, batch->erased + pass->first, in.n);
    on->kernels->input(on->stream, &in, out);
    fetch_next(images, on, pass);
}
