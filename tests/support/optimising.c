#include "support/optimising.h"

#include "support/golden.h"

#include <math.h>

struct opened_method open_method(enum dml_kind kind, const char *name, const char *flags) {
    struct opened_method opened = {.method = dml_method_find(kind, name)};
    assert_non_null(opened.method);
    assert_ok(dml_params_new(&opened.params));
    assert_ok(dml_params_add(opened.params, opened.method->params));
    if (flags)
        assert_ok(dml_params_parse_text(opened.params, flags));
    opened.options = dml_params_options(opened.params, opened.method->params);
    return opened;
}

void close_method(struct opened_method *method) {
    dml_params_free(method->params);
}

void open_stepper(struct stepper *s, const struct dml_graph *graph, const char *optimiser,
                  const char *flags, double lr) {
    int head = graph->param_count;
    while (head > 0 && graph->params[head - 1].head)
        head--;
    *s = (struct stepper){
        .optimiser = open_method(DML_OPTIMISER, optimiser, flags),
        .spans = {{0, head, 0}, {head, graph->param_count, 1}},
        .updates = {{.lr = lr, .momentum = NAN}, {.lr = lr, .momentum = NAN}},
    };
    s->step =
        (struct dml_optimiser_step){.optimiser = (const struct dml_optimiser *)s->optimiser.method,
                                    .options = s->optimiser.options,
                                    .spans = {s->spans, 2},
                                    .updates = s->updates};
}

void close_stepper(struct stepper *s) {
    close_method(&s->optimiser);
}

void take_step(struct stepper *s, struct dml_network *network) {
    for (int g = 0; g < 2; g++)
        s->updates[g].step++;
    assert_ok(dml_network_step(network, &s->step));
}
