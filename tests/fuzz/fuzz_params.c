#include "dml/params.h"
#include "dml/params_json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum choice { FIRST, SECOND };
struct options {
    bool flag;
    int64_t number;
    double share;
    char *text;
    enum choice choice;
    struct dml_ints numbers;
    struct dml_floats shares;
    struct dml_strings texts;
};

static const char *const choices[] = {"first", "second", NULL};
#define AT(field) offsetof(struct options, field)
static const struct dml_param rows[] = {
    {"flag", DML_PARAM_FLAG, AT(flag), .help = "A flag."},
    {"number", DML_PARAM_INT, AT(number), "3", 1, 1000, .help = "A number."},
    {"share", DML_PARAM_FLOAT, AT(share), "0.5", 0, 1, .help = "A share."},
    {"text", DML_PARAM_STRING, AT(text), "a", .help = "A text."},
    {"choice", DML_PARAM_CHOICE, AT(choice), "second", .choices = choices, .help = "A choice."},
    {"numbers", DML_PARAM_INTS, AT(numbers), "1 2", .help = "Numbers."},
    {"shares", DML_PARAM_FLOATS, AT(shares), .help = "Shares."},
    {"texts", DML_PARAM_STRINGS, AT(texts), "a b", .help = "Texts."},
};
#undef AT
static const struct dml_param_table table = DML_PARAM_TABLE("Fuzz", struct options, rows);

static struct dml_params *fresh(void) {
    struct dml_params *params;
    if (dml_params_new(&params) || dml_params_add(params, &table))
        abort();
    return params;
}

/* What was read and written again is read as the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *json = strndup((const char *)data, size), *first, *second;
    for (int lenient = 0; lenient < 2; lenient++) {
        struct dml_params *params = fresh(), *again = fresh();
        if (dml_params_from_json(params, json, lenient) == DML_OK) {
            const struct options *options = dml_params_options(params, &table);
            if (options->number < 1 || options->number > 1000 || !options->text ||
                options->choice > SECOND)
                abort();
            if (dml_params_to_json(params, &first) || dml_params_from_json(again, first, false) ||
                dml_params_to_json(again, &second) || strcmp(first, second) != 0)
                abort();
            free(first);
            free(second);
        }
        dml_params_free(params);
        dml_params_free(again);
    }
    free(json);
    return 0;
}
