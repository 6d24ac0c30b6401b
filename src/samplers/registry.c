#include "base/builtin.h"
#include "dml/samplers.h"

extern const struct dml_sampler dml_sampler_class_random;
extern const struct dml_sampler dml_sampler_full_random;

const struct dml_method *const dml_builtin_samplers[] = {
    &dml_sampler_class_random.method,
    &dml_sampler_full_random.method,
    NULL,
};
