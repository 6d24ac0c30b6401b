#include "cli/cli.h"

#include "backends/backend.h"
#include "backends/cuda/cuda.h"
#include "base/level.h"

#include <omp.h>
#include <stdio.h>

/* `dml devices`: what a network can run on. */

static const char usage[] = "usage: dml devices\n"
                            "\n"
                            "What networks can run on: the processor, and GPUs with their memory.\n"
                            "`dml train --gpu 1` uses the second GPU.\n";

static void print_card(const struct cuda_api *api, int index) {
    struct cuda_card card = {0};
    char reason[CUDA_REASON] = "";
    if (api->card(index, &card, reason))
        printf("GPU %d: %s, compute capability %d.%d, %.1f of %.1f GB free\n", index, card.name,
               card.major, card.minor, (double)card.free / 1e9, (double)card.memory / 1e9);
    else
        printf("GPU %d: cannot be used: %s\n", index, reason);
}

static void print_gpus(void) {
    char reason[CUDA_REASON] = "";
    const struct cuda_api *api = dml_cuda_find(reason);
    int count = api ? api->count(reason) : -1;
    for (int i = 0; i < count; i++)
        print_card(api, i);
    if (count < 0)
        printf("GPU: none: %s\n", reason);
    if (!api)
        return;
    struct cuda_versions v;
    api->versions(&v);
    printf("CUDA %d.%d, ", v.runtime / 1000, v.runtime % 1000 / 10);
    if (v.driver)
        printf("driver for CUDA %d.%d, ", v.driver / 1000, v.driver % 1000 / 10);
    if (v.cudnn)
        printf("cuDNN %d.%d.%d\n", v.cudnn / 10000, v.cudnn % 10000 / 100, v.cudnn % 100);
    else
        printf("no cuDNN\n");
}

int dml_devices_main(int argc, char **argv) {
    if (dml_cli_wants_help(argc, argv)) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc > 1) {
        return dml_cli_finish("devices",
                              dml_fail(DML_ERROR_USAGE, "'%s': takes no flags", argv[1]));
    }
    bool bf16 = dml_backend_cpu.abilities().precisions & 1u << DML_PRECISION_BF16;
    printf("processor: %d threads, kernels %s, precisions fp32%s\n", omp_get_max_threads(),
           dml_level_name(), bf16 ? " and bf16" : "");
    print_gpus();
    return 0;
}
