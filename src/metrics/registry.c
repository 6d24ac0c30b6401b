#include "base/builtin.h"
#include "metrics/families.h"

const struct dml_method *const dml_builtin_metrics[] = {
    &dml_metric_e_recall.method,
    &dml_metric_c_recall.method,
    &dml_metric_e_map.method,
    &dml_metric_e_map_1000.method,
    &dml_metric_e_map_lim.method,
    &dml_metric_e_map_c.method,
    &dml_metric_e_map_at_r.method,
    &dml_metric_e_r_precision.method,
    &dml_metric_c_map.method,
    &dml_metric_c_map_1000.method,
    &dml_metric_c_map_lim.method,
    &dml_metric_c_map_c.method,
    &dml_metric_c_map_at_r.method,
    &dml_metric_c_r_precision.method,
    &dml_metric_e_nmi.method,
    &dml_metric_e_f1.method,
    &dml_metric_c_nmi.method,
    &dml_metric_c_f1.method,
    &dml_metric_intra.method,
    &dml_metric_inter.method,
    &dml_metric_intra_over_inter.method,
    &dml_metric_rho_spectrum.method,
    NULL,
};
