#ifndef DML_METRICS_DEFAULTS_H
#define DML_METRICS_DEFAULTS_H

/* The names of the study's metrics: separated by " " they are the default of a flag, separated by
 * DML_COMMA the elements of an array. */
#define DML_DEFAULT_METRICS(separator)                                                             \
    "e_recall@1" separator "e_recall@2" separator "e_recall@4" separator "nmi" separator           \
    "f1" separator "mAP_1000" separator "mAP_lim" separator "mAP_c" separator                      \
    "dists@intra" separator "dists@inter" separator "dists@intra_over_inter" separator             \
    "rho_spectrum@0" separator "rho_spectrum@-1" separator "rho_spectrum@1" separator              \
    "rho_spectrum@2" separator "rho_spectrum@10"
#define DML_COMMA ,

enum {
    DML_DEFAULT_METRIC_COUNT =
        sizeof((const char *[]){DML_DEFAULT_METRICS(DML_COMMA)}) / sizeof(const char *)
};

#endif
