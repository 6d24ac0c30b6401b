#include "base/memory.h"
#include "base/stream.h"
#include "base/text.h"
#include "report/report.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The study names a group <DATASET>[reg]_<Criterion>[_b<beta>][_<Miner>], as in
 * "CUBreg_Margin_b06_Distance". */

/* What follows "CUB_" or "CUBreg_"; the whole name where it does not begin so. */
static const char *without_dataset(const char *group, bool *regularised) {
    const char *at = group;
    while (isupper((unsigned char)*at) || isdigit((unsigned char)*at))
        at++;
    *regularised = at > group && strncmp(at, "reg_", 4) == 0;
    if (*regularised)
        return at + 4;
    return at > group && *at == '_' && at[1] ? at + 1 : group;
}

static const char *miner_letter(const char *token) {
    static const char *const miners[][2] = {
        {"Distance", "D"}, {"Random", "R"}, {"Semihard", "S"}, {"Softhard", "H"}};
    for (size_t i = 0; i < sizeof miners / sizeof miners[0]; i++)
        if (strcmp(token, miners[i][0]) == 0)
            return miners[i][1];
    return NULL;
}

/* "b06": digits after a b. */
static bool is_beta(const char *token) {
    return token[0] == 'b' && strlen(token) == 3 && isdigit((unsigned char)token[1]) &&
           isdigit((unsigned char)token[2]);
}

static void put_token(FILE *out, const char *text, bool latex) {
    if (latex)
        dml_text_latex(out, text);
    else
        fputs(text, out);
}

static void put_label(FILE *out, char *name, bool latex) {
    char *rest = NULL, *tokens[32];
    const char *miner = NULL, *beta = NULL;
    size_t count = 0, words = 0;
    for (char *at = strtok_r(name, "_", &rest); at && count < 32; at = strtok_r(NULL, "_", &rest))
        tokens[count++] = at;
    for (size_t i = 0; i < count; i++) {
        const char *letter = i > 0 ? miner_letter(tokens[i]) : NULL;
        if (letter) {
            miner = letter;
        } else if (i > 0 && is_beta(tokens[i])) {
            beta = tokens[i];
        } else {
            if (words++)
                fputs(latex ? "\\_" : "_", out);
            put_token(out, tokens[i], latex);
        }
    }
    if (miner || beta)
        fprintf(out, " (%s%s", miner ? miner : "", miner && beta ? ", " : "");
    if (beta)
        fprintf(out, latex ? "$\\beta=%c.%c$" : "beta=%c.%c", beta[1], beta[2]);
    if (miner || beta)
        fputc(')', out);
}

char *dml_report_label(const char *group, bool latex) {
    bool regularised;
    char *label = NULL, *name = dml_strdup(without_dataset(group, &regularised));
    struct dml_stream stream;
    if (name && dml_stream_open(&stream) == DML_OK) {
        fputs(regularised ? "R-" : "", stream.file);
        put_label(stream.file, name, latex);
        dml_stream_close(&stream, &label);
    }
    free(name);
    return label;
}
