/* What ranks say about single queries. */
#include "metrics/hits.h"
#include "metrics/means.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static enum dml_status fill_scores(const struct dml_ranks *ranks, const uint32_t *place,
                                   struct dml_query_scores *out) {
    size_t n = ranks->queries;
    out->first_hit = dml_alloc(n, sizeof *out->first_hit);
    out->ap = dml_alloc(n, sizeof *out->ap);
    out->ap_at_r = dml_alloc(n, sizeof *out->ap_at_r);
    out->r_precision = dml_alloc(n, sizeof *out->r_precision);
    if (!out->first_hit || !out->ap || !out->ap_at_r || !out->r_precision)
        return DML_ERROR_MEMORY;
    for (size_t q = 0; q < n; q++) {
        size_t r = ranks->positives[q], at = place[ranks->query[q]];
        double share = r ? 1 / (double)r : NAN;
        out->first_hit[at] = r ? ranks->rank[ranks->start[q]] : 0;
        out->ap[at] = dml_sum_precisions(ranks, q, SIZE_MAX) * share;
        out->ap_at_r[at] = dml_sum_precisions(ranks, q, r) * share;
        out->r_precision[at] = (double)dml_hits_within(ranks, q, r) * share;
    }
    return DML_OK;
}

enum dml_status dml_per_query_fill(const struct dml_prepared *prepared, struct dml_per_query *out) {
    const struct dml_metric_inputs *in = &prepared->inputs;
    const struct dml_ranks *any = in->euclidean.ranks ? in->euclidean.ranks : in->cosine.ranks;
    memset(out, 0, sizeof *out);
    uint32_t *place = dml_alloc(in->set->n, sizeof *place); /* of a sample, among the queries */
    out->queries = any->queries;
    out->query = dml_alloc(any->queries, sizeof *out->query);
    out->positives = dml_alloc(any->queries, sizeof *out->positives);
    enum dml_status status = place && out->query && out->positives ? DML_OK : DML_ERROR_MEMORY;
    for (size_t i = 0, at = 0; !status && i < in->set->n; i++)
        if (!in->asked || in->asked[i]) {
            place[i] = (uint32_t)at;
            out->query[at++] = (uint32_t)i;
        }
    for (size_t q = 0; !status && q < any->queries; q++)
        out->positives[place[any->query[q]]] = any->positives[q];
    if (!status && in->euclidean.ranks)
        status = fill_scores(in->euclidean.ranks, place, &out->euclidean);
    if (!status && in->cosine.ranks)
        status = fill_scores(in->cosine.ranks, place, &out->cosine);
    free(place);
    if (status)
        dml_per_query_free(out);
    return status;
}

void dml_per_query_free(struct dml_per_query *per_query) {
    struct dml_query_scores *spaces[] = {&per_query->euclidean, &per_query->cosine};
    for (int s = 0; s < 2; s++) {
        free(spaces[s]->first_hit);
        free(spaces[s]->ap);
        free(spaces[s]->ap_at_r);
        free(spaces[s]->r_precision);
    }
    free(per_query->query);
    free(per_query->positives);
    memset(per_query, 0, sizeof *per_query);
}
