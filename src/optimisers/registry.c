#include "base/builtin.h"
#include "dml/optimisers.h"

/* Each optimiser has its own file, src/optimisers/NAME.c, which defines dml_optimiser_NAME. */
extern const struct dml_optimiser dml_optimiser_adam, dml_optimiser_adamw, dml_optimiser_rmsprop,
    dml_optimiser_sgd, dml_optimiser_lion;

const struct dml_method *const dml_builtin_optimisers[] = {
    &dml_optimiser_adam.method,    &dml_optimiser_adamw.method, &dml_optimiser_sgd.method,
    &dml_optimiser_rmsprop.method, &dml_optimiser_lion.method,  NULL,
};
