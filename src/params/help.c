#include "params/internal.h"

#include <string.h>

enum { HELP_COLUMN = 38, HELP_WIDTH = 100 };

/* Prints `text` from the help column on, broken at blanks; `column` is the line's current one. */
static void print_wrapped(FILE *out, int column, const char *text) {
    while (*text) {
        while (*text == ' ')
            text++;
        int length = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + length > HELP_WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        int blanks = column < HELP_COLUMN ? HELP_COLUMN - column : 1;
        fprintf(out, "%*s%.*s", blanks, "", length, text);
        column += blanks + length;
        text += length;
    }
    fputc('\n', out);
}

static void param_help(const struct dml_param *param, FILE *out) {
    static const char *const placeholders[] = {
        [DML_PARAM_FLAG] = "",         [DML_PARAM_INT] = " N",
        [DML_PARAM_FLOAT] = " X",      [DML_PARAM_STRING] = " TEXT",
        [DML_PARAM_CHOICE] = " TEXT",  [DML_PARAM_INTS] = " N ...",
        [DML_PARAM_FLOATS] = " X ...", [DML_PARAM_STRINGS] = " TEXT ...",
    };
    char text[2200], bounds[80];
    size_t used = (size_t)snprintf(text, 800, "%s", param->help);
    if (used >= 800)
        used = 799;
    for (const char *const *choice = param->choices; choice && *choice && used < 1300; choice++)
        used += (size_t)snprintf(text + used, 1400 - used, "%s %s%s",
                                 choice == param->choices ? " One of:" : "", *choice,
                                 choice[1] ? "," : ".");
    dml_param_bounds_text(param, bounds, sizeof bounds);
    bool show_default = param->fallback && *param->fallback && param->type != DML_PARAM_FLAG;
    if (show_default)
        snprintf(text + used, sizeof text - used, " [default: %.600s%s%s]", param->fallback,
                 *bounds ? "; " : "", bounds);
    else if (*bounds)
        snprintf(text + used, sizeof text - used, " [%s]", bounds);
    int column = fprintf(out, "  --%s%s", param->name, placeholders[param->type]);
    if (column >= HELP_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    print_wrapped(out, column, text);
}

void dml_param_table_help(const struct dml_param_table *table, FILE *out) {
    fprintf(out, "%s\n", table->title);
    for (size_t i = 0; i < table->count; i++)
        param_help(&table->params[i], out);
}

void dml_params_help(const struct dml_params *params, FILE *out) {
    for (size_t g = 0; g < params->count; g++) {
        fputc('\n', out);
        dml_param_table_help(params->groups[g].table, out);
    }
}
