#include "cli/cli.h"

#include "data/layout.h"
#include "data/operations/operation.h"
#include "dml/dml.h"
#include "params/internal.h"
#include "postprocess/postprocess.h"
#include "train/options.h"

#include <stdio.h>

/* `dashes`: what is put before a name. */
static void print_row(const struct dml_param *param, const char *dashes) {
    static const char *const types[] = {
        [DML_PARAM_FLAG] = "switch",    [DML_PARAM_INT] = "whole number",
        [DML_PARAM_FLOAT] = "number",   [DML_PARAM_STRING] = "text",
        [DML_PARAM_CHOICE] = "text",    [DML_PARAM_INTS] = "whole numbers",
        [DML_PARAM_FLOATS] = "numbers", [DML_PARAM_STRINGS] = "texts",
    };
    char bounds[80];
    dml_param_bounds_text(param, bounds, sizeof bounds);
    printf("| `%s%s` | %s | ", dashes, param->name, types[param->type]);
    if (param->fallback && *param->fallback)
        printf("`%s`", param->fallback);
    printf(" | %s", bounds);
    for (const char *const *choice = param->choices; choice && *choice; choice++)
        printf("%s`%s`", choice == param->choices ? "" : ", ", *choice);
    printf(" | %s |\n", param->help);
}

static void print_table(const struct dml_param_table *table, const char *dashes) {
    printf("\n| %s | type | default | bounds | meaning |\n|---|---|---|---|---|\n",
           *dashes ? "flag" : "parameter");
    for (size_t i = 0; i < table->count; i++)
        print_row(&table->params[i], dashes);
}

static void print_kind(enum dml_kind kind, const char *title) {
    const struct dml_method *method;
    printf("\n## %s\n", title);
    for (size_t i = 0; (method = dml_method_at(kind, i)); i++) {
        printf("\n### %s\n\n%s\n", method->name, method->summary);
        if (method->paper)
            printf("\n%s\n", method->paper);
        if (method->params)
            print_table(method->params, "--");
    }
}

/* Backbones that share a table of options are listed together. */
static void print_backbones(void) {
    const struct dml_method *method, *other;
    puts("\n## Backbones (--arch)\n\nOptions are written after the name: "
         "`resnet50_frozen_normalize`. "
         "A switch is `_NAME`, a choice `_CHOICE`, a\nnumber `_NAME0.1`.");
    for (size_t i = 0; (method = dml_method_at(DML_BACKBONE, i)); i++) {
        bool first = true;
        for (size_t k = 0; k < i; k++)
            first = first && dml_method_at(DML_BACKBONE, k)->params != method->params;
        if (!first)
            continue;
        printf("\n### %s\n\n| backbone | what it is | paper |\n|---|---|---|\n",
               method->params->title);
        for (size_t k = i; (other = dml_method_at(DML_BACKBONE, k)); k++)
            if (other->params == method->params)
                printf("| `%s` | %s | %s |\n", other->name, other->summary, other->paper);
        print_table(method->params, "");
    }
}

static void print_operations(void) {
    const struct dml_operation *operation;
    puts("\n## Operations of --transforms and --eval_transforms");
    for (size_t i = 0; (operation = dml_operation_at(i)); i++) {
        printf("\n### %s\n\n%s%s\n", operation->name, operation->summary,
               operation->random ? "" : " Also for evaluation.");
        if (operation->paper)
            printf("\n%s\n", operation->paper);
        if (operation->params)
            print_table(operation->params, "");
    }
}

int dml_reference_main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        puts("usage: dml reference > docs/REFERENCE.md");
        return dml_cli_wants_help(argc, argv) ? 0 : 2;
    }
    puts("# Reference\n\nWritten by `dml reference` from the parameter tables; do not edit.");
    struct dml_params *params;
    enum dml_status status = dml_train_params(&params);
    if (status)
        return dml_cli_finish("reference", status);
    puts("\n## Flags of `dml train`");
    for (size_t g = 0; g < params->count; g++) {
        const struct dml_param_table *table = params->groups[g].table;
        const struct dml_method *method = NULL;
        bool own = true; /* a method's table is printed with its method */
        for (int kind = 0; kind < DML_KIND_COUNT; kind++)
            for (size_t i = 0; (method = dml_method_at(kind, i)); i++)
                own = own && method->params != table;
        if (!own)
            continue;
        printf("\n### %s\n", table->title);
        print_table(table, "--");
    }
    puts("\n## Layouts of data sets\n\n| layout | what it is |\n|---|---|");
    const struct dml_layout_kind *kind;
    for (size_t i = 0; (kind = dml_layout_at(i)); i++)
        printf("| `%s` | %s |\n", kind->name, kind->summary);
    print_kind(DML_CRITERION, "Criteria");
    print_kind(DML_MINER, "Batch miners");
    print_kind(DML_SAMPLER, "Batch samplers");
    print_kind(DML_METRIC, "Metrics");
    print_kind(DML_OPTIMISER, "Optimisers");
    print_kind(DML_SCHEDULE, "Learning-rate schedules");
    print_backbones();
    puts("\n## Post-processing in `dml eval` and `dml search`");
    print_table(&dml_postprocess_params, "--");
    print_operations();
    dml_params_free(params);
    return 0;
}
