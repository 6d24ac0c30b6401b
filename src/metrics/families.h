#ifndef DML_METRICS_FAMILIES_H
#define DML_METRICS_FAMILIES_H

#include "dml/metrics.h"

/* The metrics of each family's file, for the registry. */
extern const struct dml_metric dml_metric_e_recall;
extern const struct dml_metric dml_metric_c_recall;
extern const struct dml_metric dml_metric_e_map;
extern const struct dml_metric dml_metric_e_map_1000;
extern const struct dml_metric dml_metric_e_map_lim;
extern const struct dml_metric dml_metric_e_map_c;
extern const struct dml_metric dml_metric_e_map_at_r;
extern const struct dml_metric dml_metric_e_r_precision;
extern const struct dml_metric dml_metric_c_map;
extern const struct dml_metric dml_metric_c_map_1000;
extern const struct dml_metric dml_metric_c_map_lim;
extern const struct dml_metric dml_metric_c_map_c;
extern const struct dml_metric dml_metric_c_map_at_r;
extern const struct dml_metric dml_metric_c_r_precision;
extern const struct dml_metric dml_metric_e_nmi;
extern const struct dml_metric dml_metric_e_f1;
extern const struct dml_metric dml_metric_c_nmi;
extern const struct dml_metric dml_metric_c_f1;
extern const struct dml_metric dml_metric_intra;
extern const struct dml_metric dml_metric_inter;
extern const struct dml_metric dml_metric_intra_over_inter;
extern const struct dml_metric dml_metric_rho_spectrum;
extern const struct dml_metric dml_metric_e_mrr;
extern const struct dml_metric dml_metric_c_mrr;
extern const struct dml_metric dml_metric_e_mrr_per_class;
extern const struct dml_metric dml_metric_c_mrr_per_class;
extern const struct dml_metric dml_metric_e_recall_per_class;
extern const struct dml_metric dml_metric_c_recall_per_class;
extern const struct dml_metric dml_metric_e_precision;
extern const struct dml_metric dml_metric_c_precision;
extern const struct dml_metric dml_metric_e_map_at_k;
extern const struct dml_metric dml_metric_c_map_at_k;
extern const struct dml_metric dml_metric_e_map_per_class;
extern const struct dml_metric dml_metric_c_map_per_class;
extern const struct dml_metric dml_metric_e_fnmr;
extern const struct dml_metric dml_metric_c_fnmr;
extern const struct dml_metric dml_metric_e_ami;
extern const struct dml_metric dml_metric_c_ami;
extern const struct dml_metric dml_metric_pcf;

#endif
