#include "train/terms.h"

#include "base/memory.h"
#include "dml/dml.h"

#include <stdlib.h>
#include <string.h>

/* Methods named "a+b". */
struct names {
    size_t count;
    const struct dml_method *methods[DML_OBJECTIVE_TERMS];
};

static enum dml_status read_names(enum dml_kind kind, const char *flag, const char *text,
                                  struct names *out) {
    char name[200];
    out->count = 0;
    for (const char *at = text;; at += strcspn(at, "+") + 1) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "+"), at);
        const struct dml_method *method = dml_method_find(kind, name);
        if (!method)
            return dml_method_unknown(kind, name);
        for (size_t i = 0; i < out->count; i++)
            if (out->methods[i] == method)
                return dml_fail(DML_ERROR_USAGE, "--%s %s: has %s twice", flag, text, name);
        if (out->count == DML_OBJECTIVE_TERMS)
            return dml_fail(DML_ERROR_USAGE, "--%s %s: more than %d names", flag, text,
                            DML_OBJECTIVE_TERMS);
        out->methods[out->count++] = method;
        if (!at[strcspn(at, "+")])
            return DML_OK;
    }
}

/* The first of the miners that fits; NULL where the criterion needs none. */
static enum dml_status choose_miner(struct dml_term *term, const struct names *miners) {
    term->miner = NULL;
    for (size_t i = 0; !term->remembers && !term->miner && i < miners->count; i++) {
        const struct dml_miner *miner = (const struct dml_miner *)miners->methods[i];
        term->miner = dml_mining_fits(term->criterion, miner) ? miner : NULL;
    }
    if (term->miner || term->remembers || term->criterion->takes == DML_TUPLES_NONE)
        return DML_OK;
    return dml_mining_allowed(term->criterion, (const struct dml_miner *)miners->methods[0]);
}

/* Refuses miners that were asked for but are of no use; but a criterion that only looks at the
 * whole batch ignores one, as in the study. */
static enum dml_status check_use(const struct dml_terms *terms, const struct names *miners,
                                 const char *loss) {
    const struct dml_term *could = NULL; /* the first term that may take tuples */
    for (size_t t = 0; t < terms->count; t++) {
        const struct dml_criterion *criterion = terms->items[t].criterion;
        if (!could && (criterion->takes || criterion->may_take))
            could = &terms->items[t];
    }
    for (size_t i = 0; i < miners->count; i++) {
        const struct dml_miner *miner = (const struct dml_miner *)miners->methods[i];
        bool used = !could && miners->count == 1;
        for (size_t t = 0; t < terms->count; t++)
            used |= terms->items[t].miner == miner;
        if (used)
            continue;
        if (could && could->remembers)
            return dml_fail(DML_ERROR_USAGE,
                            "the criterion '%s' takes all pairs with what --xbm_size remembers: "
                            "leave out the batch miner '%s'",
                            could->criterion->method.name, miner->method.name);
        if (could && terms->count == 1 && miners->count == 1)
            return dml_mining_allowed(could->criterion, miner);
        return dml_fail(DML_ERROR_USAGE,
                        "no criterion of --loss %s has a use for the batch miner '%s': leave it "
                        "out; `dml list` tells which go together",
                        loss, miner->method.name);
    }
    return DML_OK;
}

static enum dml_status read_memory(struct dml_terms *terms,
                                   const struct dml_training_options *training) {
    bool remembers = false;
    if (training->xbm_size == 0)
        return DML_OK;
    for (size_t t = 0; t < terms->count; t++) {
        terms->items[t].remembers = terms->items[t].criterion->takes_reference;
        remembers |= terms->items[t].remembers;
    }
    if (!remembers)
        return dml_reference_allowed(terms->items[0].criterion);
    if (training->xbm_size < training->bs)
        return dml_fail(DML_ERROR_USAGE, "--xbm_size %lld is less than --bs %lld",
                        (long long)training->xbm_size, (long long)training->bs);
    return DML_OK;
}

enum dml_status dml_terms_read(const struct dml_params *params,
                               const struct dml_training_options *training, struct dml_terms *out) {
    struct names criteria, miners;
    *out = (struct dml_terms){0};
    enum dml_status status = read_names(DML_CRITERION, "loss", training->loss, &criteria);
    if (!status) /* in use or not: names are recorded */
        status = read_names(DML_MINER, "batch_mining", training->batch_mining, &miners);
    const struct dml_floats *weights = &training->loss_weights;
    if (!status && weights->count && weights->count != criteria.count)
        status = dml_fail(DML_ERROR_USAGE, "--loss_weights has %zu numbers, --loss %s %zu criteria",
                          weights->count, training->loss, criteria.count);
    if (status)
        return status;
    out->count = criteria.count;
    for (size_t t = 0; t < out->count; t++) {
        out->items[t].criterion = (const struct dml_criterion *)criteria.methods[t];
        out->items[t].weight = weights->count ? weights->items[t] : 1;
    }
    status = read_memory(out, training);
    for (size_t t = 0; !status && t < out->count; t++)
        status = choose_miner(&out->items[t], &miners);
    if (!status && dml_params_given(params, "batch_mining"))
        status = check_use(out, &miners, training->loss);
    return status;
}

static enum dml_status open_term(struct dml_term *term, const struct dml_params *params,
                                 const struct dml_criterion_context *common, int64_t xbm_size,
                                 struct dml_objective **out) {
    const struct dml_criterion *criterion = term->criterion;
    const void *options = dml_params_options(params, criterion->method.params);
    struct dml_criterion_context context = *common;
    enum dml_status status = DML_OK;
    if (term->miner) {
        const struct dml_miner_context mining = {
            common->dim, criterion->margin ? criterion->margin(options) : 0.2};
        context.miner = term->miner->method.name;
        status =
            dml_mining_create(term->miner, dml_params_options(params, term->miner->method.params),
                              &mining, &term->mining);
    }
    if (!status)
        status = dml_objective_create(criterion, options, &context, out);
    if (!status && term->remembers)
        status = dml_objective_remember(*out, (size_t)xbm_size);
    return status;
}

enum dml_status dml_terms_open(struct dml_terms *terms, const struct dml_params *params,
                               const struct dml_training_options *training,
                               const struct dml_criterion_context *context) {
    struct dml_objective *objectives[DML_OBJECTIVE_TERMS] = {0};
    double weights[DML_OBJECTIVE_TERMS];
    enum dml_status status = DML_OK;
    for (size_t t = 0; !status && t < terms->count; t++) {
        weights[t] = terms->items[t].weight;
        status = open_term(&terms->items[t], params, context, training->xbm_size, &objectives[t]);
    }
    if (!status && terms->count == 1 && weights[0] == 1)
        terms->objective = objectives[0];
    else if (!status)
        status = dml_objective_sum(objectives, weights, terms->count, &terms->objective);
    for (size_t t = 0; status && t < terms->count; t++)
        dml_objective_free(objectives[t]);
    return status;
}

void dml_terms_close(struct dml_terms *terms) {
    dml_objective_free(terms->objective);
    for (size_t t = 0; t < terms->count; t++) {
        dml_mining_free(terms->items[t].mining);
        dml_tuples_free(&terms->items[t].tuples);
    }
    *terms = (struct dml_terms){0};
}

enum dml_status dml_terms_compute(struct dml_terms *terms, const struct dml_batch *batch,
                                  uint64_t seed, uint64_t step, float *grad, struct dml_loss *loss,
                                  size_t *swapped) {
    const struct dml_tuples *tuples[DML_OBJECTIVE_TERMS] = {0};
    enum dml_status status = DML_OK;
    *swapped = 0;
    for (size_t t = 0; !status && t < terms->count; t++) {
        struct dml_term *term = &terms->items[t];
        if (!term->mining)
            continue;
        size_t own = 0;
        struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_MINER, step, (uint64_t)t);
        status = dml_mining_compute(term->mining, batch, &rng, &term->tuples, &own);
        tuples[t] = &term->tuples;
        *swapped += own;
    }
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_CRITERION, step, 1);
    return status ? status
                  : dml_objective_compute_sum(terms->objective, batch, tuples, &rng, grad, loss);
}

void dml_terms_describe(const struct dml_terms *terms, char *criteria, char *miners, size_t size) {
    size_t used = 0, mined = 0;
    for (size_t t = 0; t < terms->count; t++) {
        const struct dml_term *term = &terms->items[t];
        char weight[30] = "";
        if (term->weight != 1)
            snprintf(weight, sizeof weight, "%g ", term->weight);
        if (used < size)
            used += (size_t)snprintf(criteria + used, size - used, "%s%s%s", t ? " + " : "", weight,
                                     term->criterion->method.name);
        if (mined < size)
            mined += (size_t)snprintf(miners + mined, size - mined, "%s%s", t ? ", " : "",
                                      term->miner ? term->miner->method.name : "none");
    }
}
