#include "base/builtin.h"
#include "dml/criteria.h"

/* Each criterion has its file, src/criteria/NAME.c, which defines dml_criterion_NAME. */
extern const struct dml_criterion dml_criterion_angular, dml_criterion_arcface,
    dml_criterion_circle, dml_criterion_contrastive, dml_criterion_histogram,
    dml_criterion_intra_pair_variance, dml_criterion_lifted, dml_criterion_lifted_original,
    dml_criterion_margin, dml_criterion_multisimilarity, dml_criterion_nca, dml_criterion_npair,
    dml_criterion_ntxent, dml_criterion_proxynca, dml_criterion_quadruplet, dml_criterion_snr,
    dml_criterion_softmax, dml_criterion_softtriplet, dml_criterion_supcon, dml_criterion_tcm,
    dml_criterion_triplet, dml_criterion_tuplet_margin;

const struct dml_method *const dml_builtin_criteria[] = {
    &dml_criterion_contrastive.method,
    &dml_criterion_triplet.method,
    &dml_criterion_margin.method,
    &dml_criterion_quadruplet.method,
    &dml_criterion_snr.method,
    &dml_criterion_lifted.method,
    &dml_criterion_lifted_original.method,
    &dml_criterion_npair.method,
    &dml_criterion_angular.method,
    &dml_criterion_multisimilarity.method,
    &dml_criterion_histogram.method,
    &dml_criterion_circle.method,
    &dml_criterion_nca.method,
    &dml_criterion_ntxent.method,
    &dml_criterion_supcon.method,
    &dml_criterion_tuplet_margin.method,
    &dml_criterion_intra_pair_variance.method,
    &dml_criterion_tcm.method,
    &dml_criterion_proxynca.method,
    &dml_criterion_softmax.method,
    &dml_criterion_arcface.method,
    &dml_criterion_softtriplet.method,
    NULL,
};
