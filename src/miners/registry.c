#include "base/builtin.h"
#include "dml/miners.h"

extern const struct dml_miner dml_miner_angular, dml_miner_batch_easy_hard, dml_miner_batch_hard,
    dml_miner_distance, dml_miner_intra_random, dml_miner_lifted, dml_miner_multisimilarity,
    dml_miner_npair, dml_miner_pair_margin, dml_miner_parametric, dml_miner_random,
    dml_miner_random_distance, dml_miner_rho_distance, dml_miner_semihard, dml_miner_softhard,
    dml_miner_triplet_margin;

const struct dml_method *const dml_builtin_miners[] = {
    &dml_miner_random.method,
    &dml_miner_semihard.method,
    &dml_miner_softhard.method,
    &dml_miner_distance.method,
    &dml_miner_rho_distance.method,
    &dml_miner_parametric.method,
    &dml_miner_batch_hard.method,
    &dml_miner_batch_easy_hard.method,
    &dml_miner_triplet_margin.method,
    &dml_miner_angular.method,
    &dml_miner_lifted.method,
    &dml_miner_npair.method,
    &dml_miner_pair_margin.method,
    &dml_miner_multisimilarity.method,
    &dml_miner_random_distance.method,
    &dml_miner_intra_random.method,
    NULL,
};
