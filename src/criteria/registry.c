#include "base/builtin.h"
#include "dml/criteria.h"

/* Each criterion has its file, src/criteria/NAME.c, which defines dml_criterion_NAME. */
extern const struct dml_criterion dml_criterion_angular, dml_criterion_arcface,
    dml_criterion_contrastive, dml_criterion_histogram, dml_criterion_lifted, dml_criterion_margin,
    dml_criterion_multisimilarity, dml_criterion_npair, dml_criterion_proxynca,
    dml_criterion_quadruplet, dml_criterion_snr, dml_criterion_softmax, dml_criterion_softtriplet,
    dml_criterion_triplet;

const struct dml_method *const dml_builtin_criteria[] = {
    &dml_criterion_contrastive.method,
    &dml_criterion_triplet.method,
    &dml_criterion_margin.method,
    &dml_criterion_quadruplet.method,
    &dml_criterion_snr.method,
    &dml_criterion_lifted.method,
    &dml_criterion_npair.method,
    &dml_criterion_angular.method,
    &dml_criterion_multisimilarity.method,
    &dml_criterion_histogram.method,
    &dml_criterion_proxynca.method,
    &dml_criterion_softmax.method,
    &dml_criterion_arcface.method,
    &dml_criterion_softtriplet.method,
    NULL,
};
