#ifndef DML_TOY_LINES_H
#define DML_TOY_LINES_H

#include "dml/params.h"
#include "toy/net.h"

/* The study's toy experiment (section 5, figure 5 of Roth et al. 2020): four classes are segments
 * of one diagonal in the plane, so that a network needs no more than the position along it; four
 * unseen classes are vertical and horizontal segments. Contrastive learning keeps one direction;
 * swapping a few negatives for positives (the rho regulariser) keeps more. */

struct dml_toy_options {
    int64_t seed, iterations, batch;
    double lr, margin, swap;
    char *output;
    struct dml_strings figure_formats;
};
extern const struct dml_param_table dml_toy_params;

enum { DML_TOY_CLASSES = 4, DML_TOY_POINTS = 15, DML_TOY_ALL = DML_TOY_CLASSES * DML_TOY_POINTS };

struct dml_toy_data {
    double train[DML_TOY_ALL][2], test[DML_TOY_ALL][2];
    int labels[DML_TOY_ALL]; /* of both */
};
void dml_toy_make_data(struct dml_toy_data *data, uint64_t seed);

/* The loss of a batch over all triplets (a, p, n) in it, and dL/d(embeddings):
 *   plain:   mean ||a-p|| + mean [margin - ||a-n||]+
 *   swapped: mean [margin - ||a-n||]+ where n is p in the triplets that `swapped` marks
 * `swapped` has an entry per triplet in the order of a, p, n, and is NULL for the plain loss. */
double dml_toy_loss(const double (*embeddings)[2], const int *labels, size_t n, double margin,
                    const unsigned char *swapped, double (*grad)[2]);

/* How many triplets a batch has. */
size_t dml_toy_triplets(const int *labels, size_t n);

struct dml_toy_result {
    double train[DML_TOY_ALL][2], test[DML_TOY_ALL][2]; /* embeddings */
    double spectrum[2]; /* singular values of the train embeddings, summing to 1 */
    double test_recall; /* share of test points whose nearest other point is of their class */
    double first, last; /* loss */
};
enum dml_status dml_toy_train(const struct dml_toy_data *data,
                              const struct dml_toy_options *options, bool swap,
                              struct dml_toy_result *out);

/* <output>/diagonal_lines.* : data, both embeddings with the test lines, both spectra. */
enum dml_status dml_toy_draw(const struct dml_toy_data *data, const struct dml_toy_result *plain,
                             const struct dml_toy_result *swapped,
                             const struct dml_toy_options *options);

#endif
