#ifndef TESTS_SUPPORT_OPTIMISING_H
#define TESTS_SUPPORT_OPTIMISING_H

#include "backends/network.h"
#include "dml/schedules.h"

/* An optimiser or schedule with options of its own, as one flag text sets them. */
struct opened_method {
    struct dml_params *params;
    const struct dml_method *method;
    const void *options;
};

/* `flags` as on the command line, or NULL. A name or flag that is not there fails the test. */
struct opened_method open_method(enum dml_kind kind, const char *name, const char *flags);
void close_method(struct opened_method *method);

/* Steps of a network with one optimiser and two groups: 0 is the backbone, 1 the head. */
struct stepper {
    struct opened_method optimiser;
    struct dml_span spans[2];
    struct dml_update updates[2];
    struct dml_optimiser_step step;
};

/* The head is the last parameters of the graph. Rates of both groups are `lr`. */
void open_stepper(struct stepper *stepper, const struct dml_graph *graph, const char *optimiser,
                  const char *flags, double lr);
void close_stepper(struct stepper *stepper);

/* One step of the CPU backend, the next one of the optimiser. */
void take_step(struct stepper *stepper, struct dml_network *network);

#endif
