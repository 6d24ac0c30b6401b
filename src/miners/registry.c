#include "base/builtin.h"
#include "dml/miners.h"

extern const struct dml_miner dml_miner_distance, dml_miner_intra_random, dml_miner_lifted,
    dml_miner_npair, dml_miner_parametric, dml_miner_random, dml_miner_random_distance,
    dml_miner_rho_distance, dml_miner_semihard, dml_miner_softhard;

const struct dml_method *const dml_builtin_miners[] = {
    &dml_miner_random.method,
    &dml_miner_semihard.method,
    &dml_miner_softhard.method,
    &dml_miner_distance.method,
    &dml_miner_rho_distance.method,
    &dml_miner_parametric.method,
    &dml_miner_lifted.method,
    &dml_miner_npair.method,
    &dml_miner_random_distance.method,
    &dml_miner_intra_random.method,
    NULL,
};
