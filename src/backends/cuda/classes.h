#ifndef DML_CUDA_CLASSES_H
#define DML_CUDA_CLASSES_H

#include "criteria/class_bank.h"

/* Vectors of classes on a card. Products are float32 whatever the network's precision. Classes are
 * processed in tiles; the cosines of all of them are kept from the forward to the backward part of
 * a step where there are no more than `most_kept`, and computed again otherwise. */
struct cuda_banks {
    struct dml_class_banks banks; /* for a criterion's context, while it is created */
    int device;
    size_t least;  /* with fewer classes the processor holds them */
    size_t states; /* that the optimiser will keep: room is made at once */
    size_t tile, most_kept;
};

void cuda_banks_make(int device, size_t least, size_t states, struct cuda_banks *out);

#endif
