#include "backends/cuda/cuda.h"
#include "cuda_host/device_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Linked into the program, this gives it the card in plain C, as the environment describes it:
 *
 *     HOST_CARD_FAILS     the number of the call that fails, and all after it; when the program
 *                         ends, the last line on stderr says how many there were
 *     HOST_CARD_MEMORY    bytes
 *     HOST_CARD_IS        its compute capability, "7.5"
 *     HOST_CARD_NCCL      the library that joins it to the cards of other ranks; "": it stands
 * alone HOST_CARD_UPLOADS   "early": those beside other work are done at once HOST_CARD_VERSIONS
 * "12080 13000 91100": of the driver, the runtime and cuDNN */
static void tell_calls(void) {
    fprintf(stderr, "%ld\n", cuda_host_calls());
}

__attribute__((constructor)) static void use_host_card(void) {
    const char *fails = getenv("HOST_CARD_FAILS"), *memory = getenv("HOST_CARD_MEMORY"),
               *is = getenv("HOST_CARD_IS"), *nccl = getenv("HOST_CARD_NCCL"),
               *uploads = getenv("HOST_CARD_UPLOADS"), *text = getenv("HOST_CARD_VERSIONS");
    struct cuda_versions versions;
    int major, minor;
    dml_cuda_replace(cuda_host_api());
    if (fails) {
        cuda_host_fail_at(atol(fails));
        atexit(tell_calls);
    }
    cuda_host_join_by(nccl && *nccl ? nccl : NULL);
    cuda_host_upload_early(uploads && strcmp(uploads, "early") == 0);
    if (memory)
        cuda_host_memory((size_t)atoll(memory));
    if (is && sscanf(is, "%d.%d", &major, &minor) == 2)
        cuda_host_capability(major, minor);
    if (text && sscanf(text, "%d %d %d", &versions.driver, &versions.runtime, &versions.cudnn) == 3)
        cuda_host_versions(&versions);
}
