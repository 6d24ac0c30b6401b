/* Up to the rate and down again, momentum the other way. Smith, Topin 2019, "Super-convergence:
 * very fast training of neural networks using large learning rates"; as in torch.optim's OneCycleLR
 * with two phases: up until step pct N - 1, down until N - 1. */
#include "dml/schedules.h"

#include <math.h>

struct options {
    double pct, div, final_div, base_momentum, max_momentum;
    bool linear, fixed_momentum;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"onecycle_pct", DML_PARAM_FLOAT, AT(pct), "0.3", 0, 1,
     .help = "Share of steps on the way up."},
    {"onecycle_div", DML_PARAM_FLOAT, AT(div), "25", 1, INFINITY,
     .help = "The first step's rate is a group's own divided by this."},
    {"onecycle_final_div", DML_PARAM_FLOAT, AT(final_div), "10000", 1, INFINITY,
     .help = "The last step's rate is the first one's divided by this."},
    {"onecycle_linear", DML_PARAM_FLAG, AT(linear), .help = "Straight lines instead of cosines."},
    {"onecycle_fixed_momentum", DML_PARAM_FLAG, AT(fixed_momentum),
     .help = "Leave momentum (beta1 of adam and adamw) as the optimiser has it."},
    {"onecycle_base_momentum", DML_PARAM_FLOAT, AT(base_momentum), "0.85", 0, 0.999999,
     .help = "Momentum where the rate is largest."},
    {"onecycle_max_momentum", DML_PARAM_FLOAT, AT(max_momentum), "0.95", 0, 0.999999,
     .help = "Momentum at both ends."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE_OF("Schedule: onecycle", struct options, params, DML_PARAM_MAY_CHANGE);

/* Between two values, with `x` from 0 to 1. */
static double anneal(const struct options *o, double start, double end, double x) {
    return o->linear ? start + (end - start) * x : end + (start - end) / 2 * (1 + cos(M_PI * x));
}

/* The value at time t of what is `first` at the start, `middle` at the turn, `last` at the end. */
static double value(const struct options *o, const struct dml_schedule_time *time, double first,
                    double middle, double last) {
    double t = (double)time->t, end = (double)time->total - 1;
    double turn = o->pct * (double)time->total - 1;
    if (t < turn)
        return anneal(o, first, middle, t / turn);
    return end > turn ? anneal(o, middle, last, fmin(1, (t - turn) / (end - turn))) : middle;
}

static double rate(const void *options, const struct dml_schedule_time *time, double lr) {
    const struct options *o = options;
    double first = lr / o->div;
    return value(o, time, first, lr, first / o->final_div);
}

static double momentum(const void *options, const struct dml_schedule_time *time) {
    const struct options *o = options;
    return o->fixed_momentum ? NAN
                             : value(o, time, o->max_momentum, o->base_momentum, o->max_momentum);
}

const struct dml_schedule dml_schedule_onecycle = {
    .method = {.name = "onecycle",
               .summary = "From a low rate up to the groups' own and down, momentum the other way",
               .paper = "Smith, Topin 2019, Super-convergence: very fast training of neural "
                        "networks using large learning rates",
               .params = &table},
    .unit = DML_PER_STEP,
    .own_warmup = true,
    .whole_run = true,
    .rate = rate,
    .momentum = momentum,
};
