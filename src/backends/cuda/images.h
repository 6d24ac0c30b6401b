#ifndef DML_CUDA_IMAGES_H
#define DML_CUDA_IMAGES_H

#include "backends/cuda/params.h"
#include "backends/planned.h"

/* The images of a pass on the card. One place is enough, although those of the next pass are copied
 * while this one computes: its first step turns pixels into the network's input, and the copy waits
 * for that step alone. */
struct cuda_images {
    char *memory;     /* on the card: a table, what is erased, then pixels */
    char *host;       /* the first two, to be copied there; has at least `n` floats */
    size_t n;         /* images that there is memory for */
    const void *from; /* what is being copied to the pixels beside other work; NULL: nothing */
    size_t bytes;     /* of it */
};

/* Bytes on the card for n images of this graph. */
size_t cuda_images_bytes(const struct dml_graph *graph, size_t n);
/* Makes room for them. false: there is not enough memory on the card or here. */
bool cuda_images_need(struct cuda_images *images, const struct cuda_on *on,
                      const struct dml_graph *graph, size_t n);
void cuda_images_free(struct cuda_images *images, const struct cuda_on *on);

/* The network's input, (n, height, width, stride) of float32 or bfloat16 (`narrow`), from the
 * images of a pass, with the affine of a node (NULL: none) applied. Then those of the next pass
 * follow beside all further work. */
void cuda_images_input(struct cuda_images *images, const struct cuda_on *on,
                       const struct dml_planned_pass *pass, const struct dml_node *affine,
                       size_t stride, bool narrow, void *out);

#endif
