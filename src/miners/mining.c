#include "dml/criteria.h"
#include "dml/miners.h"

#include "base/batch.h"
#include "base/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct dml_mining {
    const struct dml_miner *miner;
    void *state;
    struct dml_miner_context context;
    struct dml_params *params; /* holds the options of a miner opened by name; else NULL */
};

enum dml_status dml_mining_create(const struct dml_miner *miner, const void *options,
                                  const struct dml_miner_context *context,
                                  struct dml_mining **out) {
    if (context->dim == 0)
        return dml_fail(DML_ERROR_INPUT, "%s: embeddings of 0 dimensions", miner->method.name);
    if (!(context->margin >= 0 && context->margin <= 1e18))
        return dml_fail(DML_ERROR_INPUT, "%s: a margin of %g: it must be 0 to 1e18",
                        miner->method.name, context->margin);
    struct dml_mining *mining = dml_alloc(1, sizeof *mining);
    if (!mining)
        return DML_ERROR_MEMORY;
    mining->miner = miner;
    mining->context = *context;
    enum dml_status status =
        miner->create ? miner->create(options, context, &mining->state) : DML_OK;
    if (status) {
        free(mining);
        return status;
    }
    *out = mining;
    return DML_OK;
}

enum dml_status dml_mining_open(const char *miner, const char *flags,
                                const struct dml_miner_context *context, struct dml_mining **out) {
    const struct dml_miner *found = (const struct dml_miner *)dml_method_find(DML_MINER, miner);
    if (!found)
        return dml_method_unknown(DML_MINER, miner);
    const struct dml_param_table *table = found->method.params;
    struct dml_params *params;
    enum dml_status status = dml_params_new(&params);
    if (status)
        return status;
    if (table)
        status = dml_params_add(params, table);
    if (!status && flags)
        status = dml_params_parse_text(params, flags);
    if (!status)
        status = dml_mining_create(found, dml_params_options(params, table), context, out);
    if (status)
        dml_params_free(params);
    else
        (*out)->params = params;
    return status;
}

void dml_mining_free(struct dml_mining *mining) {
    if (!mining)
        return;
    if (mining->miner->destroy)
        mining->miner->destroy(mining->state);
    dml_params_free(mining->params);
    free(mining);
}

const struct dml_miner *dml_mining_miner(const struct dml_mining *mining) {
    return mining->miner;
}

enum dml_status dml_mining_compute(struct dml_mining *mining, const struct dml_batch *batch,
                                   struct dml_rng *rng, struct dml_tuples *out, size_t *swapped) {
    enum dml_status status = dml_batch_check(batch, mining->context.dim, 0);
    if (status)
        return dml_fail_within(status, "%s", mining->miner->method.name);
    if (swapped)
        *swapped = 0;
    status = mining->miner->mine(mining->state, batch, rng, out, swapped);
    if (status)
        dml_tuples_clear(out); /* no half-built tuples */
    return status;
}

/* The names of all miners that give `kind`: "random, semihard". */
static void list_miners(enum dml_tuple_kind kind, char *out, size_t size) {
    size_t used = 0;
    out[0] = 0;
    const struct dml_method *method;
    for (size_t i = 0; (method = dml_method_at(DML_MINER, i)) && used < size; i++)
        if (((const struct dml_miner *)method)->gives == kind)
            used +=
                (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", method->name);
}

/* DML_TUPLES_NONE: it never looks at tuples. */
static enum dml_tuple_kind kind_for(const struct dml_criterion *criterion) {
    return criterion->takes == DML_TUPLES_NONE ? criterion->may_take : criterion->takes;
}

bool dml_mining_fits(const struct dml_criterion *criterion, const struct dml_miner *miner) {
    const enum dml_tuple_kind kind = kind_for(criterion);
    return kind != DML_TUPLES_NONE && miner->gives == kind;
}

enum dml_status dml_mining_allowed(const struct dml_criterion *criterion,
                                   const struct dml_miner *miner) {
    /* A criterion without mining ignores the miner, as the study does: its default miner stays
     * set on every command line. */
    const bool whole = criterion->takes == DML_TUPLES_NONE;
    const enum dml_tuple_kind kind = kind_for(criterion);
    if (kind == DML_TUPLES_NONE || (miner ? miner->gives == kind : whole))
        return DML_OK;
    char allowed[1200];
    list_miners(kind, allowed, sizeof allowed);
    const char *name = criterion->method.name, *needs = dml_tuple_kind_words(kind);
    if (!miner)
        return dml_fail(DML_ERROR_USAGE,
                        "the criterion '%s' needs %s, hence a batch miner: use one of: %s", name,
                        needs, allowed);
    if (whole)
        return dml_fail(
            DML_ERROR_USAGE,
            "the criterion '%s' looks at the whole batch or takes %s, but the batch miner "
            "'%s' gives %s: leave out --batch_mining%s%s",
            name, needs, miner->method.name, dml_tuple_kind_words(miner->gives),
            *allowed ? ", or use one of: " : "", allowed);
    return dml_fail(
        DML_ERROR_USAGE,
        "the criterion '%s' needs %s, but the batch miner '%s' gives %s: use one of: %s", name,
        needs, miner->method.name, dml_tuple_kind_words(miner->gives), allowed);
}
