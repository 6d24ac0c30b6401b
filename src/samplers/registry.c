#include "base/builtin.h"
#include "dml/samplers.h"

extern const struct dml_sampler dml_sampler_class_random;
extern const struct dml_sampler dml_sampler_full_random;
extern const struct dml_sampler dml_sampler_greedy_coreset;
extern const struct dml_sampler dml_sampler_d2_coreset;
extern const struct dml_sampler dml_sampler_disthist_batchmatch;
extern const struct dml_sampler dml_sampler_fid_batchmatch;

const struct dml_method *const dml_builtin_samplers[] = {
    &dml_sampler_class_random.method,
    &dml_sampler_full_random.method,
    &dml_sampler_greedy_coreset.method,
    &dml_sampler_d2_coreset.method,
    &dml_sampler_disthist_batchmatch.method,
    &dml_sampler_fid_batchmatch.method,
    NULL,
};
