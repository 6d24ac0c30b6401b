#include "train/batches.h"

#include "base/memory.h"
#include "base/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double LEAST = 0.05; /* share of images below which there is a warning */

/* Images with another one of their class in their batch, and with one of another class. */
struct partners {
    size_t images, positives, negatives;
};

static enum dml_status count_partners(const struct dml_part *part, const uint32_t *plan,
                                      size_t batches, size_t bs, struct partners *out) {
    size_t *members = dml_alloc(part->classes, sizeof *members); /* of a batch, by class */
    if (!members)
        return DML_ERROR_MEMORY;
    *out = (struct partners){.images = batches * bs};
    for (size_t b = 0; b < batches; b++) {
        const uint32_t *batch = plan + b * bs;
        for (size_t i = 0; i < bs; i++)
            members[part->labels[batch[i]]]++;
        for (size_t i = 0; i < bs; i++) {
            size_t alike = members[part->labels[batch[i]]];
            out->positives += alike > 1;
            out->negatives += alike < bs;
        }
        memset(members, 0, part->classes * sizeof *members);
    }
    free(members);
    return DML_OK;
}

/* A criterion that takes no tuples but has parameters of its own compares images with those. */
static bool compares_images(const struct dml_objective *objective) {
    const struct dml_criterion *criterion;
    for (size_t i = 0; (criterion = dml_objective_term(objective, i)); i++)
        if (criterion->takes != DML_TUPLES_NONE || !criterion->parameters)
            return true;
    return false;
}

static void warn(const struct dml_experiment *e, size_t count, size_t images, const char *what) {
    double share = (double)count / (double)images;
    if (share < LEAST)
        dml_warn("--bs %lld --samples_per_class %lld: %.3g %% of the images have %s in their "
                 "batch, from which --loss %s learns",
                 (long long)e->training->bs, (long long)e->training->samples_per_class, 100 * share,
                 what, e->training->loss);
}

enum dml_status dml_batches_warn(const struct dml_experiment *e, const uint32_t *plan,
                                 size_t batches) {
    struct partners found;
    if (batches == 0 || !compares_images(e->terms.objective))
        return DML_OK;
    enum dml_status status =
        count_partners(&e->dataset.training, plan, batches, (size_t)e->training->bs, &found);
    if (!status) {
        warn(e, found.positives, found.images, "another one of their class");
        warn(e, found.negatives, found.images, "one of another class");
    }
    return status;
}
