#include "backends/cuda/device/usable.h"

#include <stdio.h>

/* Driver version 0 is how CUDA says that there is none. */
bool cuda_usable_versions(const struct cuda_versions *v, char *reason) {
    if (v->driver == 0)
        snprintf(reason, CUDA_REASON, "there is no NVIDIA driver");
    else if (v->driver / 1000 < v->runtime / 1000)
        snprintf(reason, CUDA_REASON,
                 "the NVIDIA driver is for CUDA %d.%d, and this build needs one for %d.%d or later",
                 v->driver / 1000, v->driver % 1000 / 10, v->runtime / 1000,
                 v->runtime % 1000 / 10);
    else if (v->cudnn == 0)
        snprintf(reason, CUDA_REASON, "cuDNN is not whole: libcudnn_graph.so.9 is missing");
    else if (v->cudnn < 90000) /* counted by thousands until 9 */
        snprintf(reason, CUDA_REASON, "cuDNN %d.%d is older than 9", v->cudnn / 1000,
                 v->cudnn % 1000 / 100);
    else
        return true;
    return false;
}

bool cuda_usable_card(const struct cuda_card *card, char *reason) {
    if (card->major >= 8)
        return true;
    snprintf(reason, CUDA_REASON, "%.80s has compute capability %d.%d, and at least 8.0 is needed",
             card->name, card->major, card->minor);
    return false;
}
