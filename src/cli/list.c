#include "cli/cli.h"

#include "data/operations/operation.h"
#include "dml/dml.h"
#include "nn/backbones/options.h"
#include "train/options.h"

#include <stdio.h>
#include <string.h>

static void print_method(const struct dml_method *method) {
    printf("  %-22s %s\n", method->name, method->summary);
    if (method->paper)
        printf("  %-22s %s\n", "", method->paper);
    for (size_t i = 0; method->params && i < method->params->count; i++) {
        const struct dml_param *param = &method->params->params[i];
        printf("  %-22s   --%s%s%s\n", "", param->name,
               param->fallback && *param->fallback ? " " : "",
               param->fallback ? param->fallback : "");
    }
}

/* Prints the miners that a criterion works with; none: it looks at the whole batch. */
static void print_miners(const struct dml_criterion *criterion) {
    const struct dml_method *method;
    printf("  %-22s   miners:", "");
    if (criterion->takes == DML_TUPLES_NONE)
        printf(" none");
    for (size_t i = 0; (method = dml_method_at(DML_MINER, i)); i++)
        if (dml_mining_fits(criterion, (const struct dml_miner *)method))
            printf(" %s", method->name);
    putchar('\n');
    if (criterion->takes_reference)
        printf("  %-22s   may compare with a memory: --xbm_size N\n", "");
}

static void print_criteria(const struct dml_miner *miner) {
    const struct dml_method *method;
    printf("  %-22s   criteria:", "");
    for (size_t i = 0; (method = dml_method_at(DML_CRITERION, i)); i++)
        if (dml_mining_fits((const struct dml_criterion *)method, miner))
            printf(" %s", method->name);
    putchar('\n');
}

static void print_backbone(const struct dml_backbone *backbone) {
    const struct dml_method *method = &backbone->method;
    char options[700];
    dml_backbone_options_text(method->params, "", " ", options, sizeof options);
    printf("  %-22s %s\n", method->name, method->summary);
    if (method->paper)
        printf("  %-22s %s\n", "", method->paper);
    printf("  %-22s   options: %s", "", *options ? options : "none");
    if (backbone->aliases)
        printf("\n  %-22s   also:", "");
    for (const char *const *alias = backbone->aliases; alias && *alias; alias++)
        printf(" %s", *alias);
    putchar('\n');
}

static void print_operations(void) {
    puts("Operations of --transforms and, where they are not random, --eval_transforms");
    const struct dml_operation *operation;
    for (size_t i = 0; (operation = dml_operation_at(i)); i++) {
        printf("  %-22s %s\n", operation->name, operation->summary);
        if (operation->paper)
            printf("  %-22s %s\n", "", operation->paper);
        for (size_t p = 0; operation->params && p < operation->params->count; p++)
            printf("  %-22s   %s=%s: %s\n", "", operation->params->params[p].name,
                   operation->params->params[p].fallback, operation->params->params[p].help);
    }
}

int dml_list_main(int argc, char **argv) {
    static const char *const titles[DML_KIND_COUNT] = {
        [DML_CRITERION] = "Criteria (--loss)",
        [DML_MINER] = "Batch miners (--batch_mining)",
        [DML_SAMPLER] = "Batch samplers (--data_sampler)",
        [DML_METRIC] = "Metrics (--evaluation_metrics)",
        [DML_OPTIMISER] = "Optimisers (--optim)",
        [DML_SCHEDULE] = "Learning-rate schedules (--scheduler)",
        [DML_BACKBONE] = "Backbones (--arch NAME with _OPTIONs)",
    };
    if (dml_cli_wants_help(argc, argv)) {
        puts("usage: dml list [--plugin FILE.so ...]\n\n"
             "Lists every criterion, batch miner, batch sampler, metric, optimiser, schedule and\n"
             "backbone with its paper, and its parameters with their defaults.");
        return 0;
    }
    enum dml_status status = dml_plugin_load_flags(argc - 1, argv + 1);
    if (!status && argc > 1 && strncmp(argv[1], "--plugin", 8) != 0)
        status = dml_fail(DML_ERROR_USAGE, "unknown argument '%s'", argv[1]);
    if (status)
        return dml_cli_finish("list", status);
    for (int kind = 0; kind < DML_KIND_COUNT; kind++) {
        const struct dml_method *method;
        printf("%s\n", titles[kind]);
        for (size_t i = 0; (method = dml_method_at(kind, i)); i++) {
            if (kind == DML_BACKBONE)
                print_backbone((const struct dml_backbone *)method);
            else
                print_method(method);
            if (kind == DML_CRITERION)
                print_miners((const struct dml_criterion *)method);
            if (kind == DML_MINER)
                print_criteria((const struct dml_miner *)method);
        }
        putchar('\n');
    }
    print_operations();
    return 0;
}
