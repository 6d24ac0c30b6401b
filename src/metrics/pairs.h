#ifndef DML_METRICS_PAIRS_H
#define DML_METRICS_PAIRS_H

#include "dml/metrics.h"
#include "math/rows.h"

/* All pairs of a query and a gallery sample that it sees, and their keys: squared distances, for
 * cosines 1 - c, or the set's own distances. */
struct dml_pairs {
    const struct dml_metric_inputs *in;
    const struct dml_distance_source *source; /* NULL: the frame's keys */
    struct dml_frame frame;
    struct dml_rows queries, gallery;
    double error; /* a tile's element is about -unit times the key */
    double unit;
    uint64_t negatives; /* pairs of different classes */
    bool squared;       /* a key is the square of a distance */
};

enum dml_status dml_pairs_open(const struct dml_metric_inputs *inputs, bool cosine,
                               struct dml_pairs *out);
void dml_pairs_close(struct dml_pairs *pairs);

/* The keys of ranks `rank` and rank + 1 (from 0, ascending; the last has no next) among all pairs
 * of different classes, exact. Memory does not grow with their number. */
enum dml_status dml_pairs_order(const struct dml_pairs *pairs, uint64_t rank, double keys[2]);

/* For each query, indexed by its sample (n): how many pairs of its class it has, and how many of
 * them are at least as far as `least`. Other entries are left as they are. */
enum dml_status dml_pairs_count(const struct dml_pairs *pairs, double least, double *count,
                                double *far);

/* The distance that a key stands for. */
double dml_pairs_distance(const struct dml_pairs *pairs, double key);

#endif
