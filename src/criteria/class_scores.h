#ifndef DML_CRITERIA_CLASS_SCORES_H
#define DML_CRITERIA_CLASS_SCORES_H

#include "criteria/common.h"

/* Cross entropy over the cosines to one learnable vector per class, shared by the criteria with
 * class weights or one proxy per class. With units u_c = w_c / ||w_c|| and c_ij = <x_i, u_j>,
 *
 *     L = mean_i log(sum_j exp z_ij) - z_iy,   z_ij = scale c_ij,   z_iy: the criterion's own
 *
 * Classes are processed in blocks; all that is kept for every class is one float per sample. */
struct dml_class_scores {
    const char *name; /* of the vectors as a parameter */
    double lr;
    size_t classes, dim;
    float *vectors, *grad;       /* (classes, dim): w, and dL/dw of the last step */
    float *norms;                /* (classes): of w */
    struct dml_class_bank *bank; /* NULL, or what holds the vectors (class_bank.h) */
    struct dml_buffer memory, directions, sample;
};

/* The logit of a sample's own class, from c = <x, u>: z, dz/dc, and where z depends on the norms of
 * x and w as well as c, its slopes along x / ||x|| and w / ||w||. */
struct dml_own_score {
    double value, slope, along_x, along_w;
};

struct dml_class_rule {
    double scale;
    bool clamp;         /* cosines to [1e-10, 1 - 1e-10], without gradient beyond */
    bool without_class; /* the sum leaves out the sample's own class */
    bool inner;         /* w_c in place of u_c: inner products with the vectors as they are */
    /* z_iy; NULL: scale c. */
    struct dml_own_score (*own)(const void *options, double cosine, double x_norm, double w_norm);
    const void *options;
    /* Share of the classes a step looks at (sampled_classes.h), drawn with rng; 0 or 1: all. */
    double class_share;
    struct dml_rng *rng;
};

/* A criterion's state of `size` bytes that begins with a struct dml_class_scores, everything else
 * and the vectors zeroed. */
enum dml_status dml_class_scores_new(size_t size, const struct dml_criterion_context *context,
                                     const char *name, double lr, void **state);

/* Such a state of class weights: "class_map", U(-1/sqrt(dim), 1/sqrt(dim)). */
enum dml_status dml_class_map_new(size_t size, const struct dml_criterion_context *context,
                                  double lr, void **state);

/* dml_criterion.destroy and .parameters for such a state, the latter for its one parameter, the
 * vectors. */
void dml_class_scores_destroy(void *state);
size_t dml_class_scores_parameters(void *state, struct dml_criterion_parameter *out, size_t max);

/* The parts of a step that do not depend on where the vectors are. A sample's own logit, from x and
 * its class's vector w (dim). What its exponents are relative to: a bound of its logits, and
 * whether that is tight enough; else the largest logit, raised from `shift` to that of the cosine
 * `most`. */
struct dml_own_score dml_class_own_score(const struct dml_class_rule *rule, const float *x,
                                         const float *w, size_t dim);
float dml_class_shift(const struct dml_class_rule *rule, const float *x, size_t dim, double own);
bool dml_class_bounded(const struct dml_class_rule *rule, double shift);
float dml_class_raised_shift(const struct dml_class_rule *rule, double shift, float most);

/* Loss of x (n, dim) with its gradient into grad (n, dim), and the vectors' gradient into their
 * own. */
enum dml_status dml_class_scores_step(struct dml_class_scores *scores,
                                      const struct dml_class_rule *rule, const float *x,
                                      const int32_t *labels, size_t n, float *grad, double *loss);
/* The same with the batch's embeddings, scaled to length 1, as x. */
enum dml_status dml_class_scores_unit_step(struct dml_class_scores *scores,
                                           const struct dml_class_rule *rule,
                                           const struct dml_batch *batch, float *grad,
                                           double *loss);

/* The cosine of an embedding and one vector in float64; 0 where either is 0. */
double dml_class_cosine(const struct dml_class_scores *scores, const float *x, size_t row);

#endif
