#ifndef DML_LIBRARY_LIBRARY_H
#define DML_LIBRARY_LIBRARY_H

#include "data/dataset.h"
#include "dml/data.h"
#include "dml/network.h"
#include "train/learner.h"
#include "train/model.h"

/* What the handles of dml/data.h and dml/network.h hold. */

struct dml_data {
    struct dml_params *params;
    struct dml_dataset dataset;
};

struct dml_net {
    struct dml_params *params;
    struct dml_model model;
    uint64_t steps; /* of training, done */
};

/* The parameters of `dml train` with `flags`, a NULL-terminated list of words; NULL: the defaults.
 */
enum dml_status dml_library_params(const char *const *flags, struct dml_params **out);

const struct dml_part *dml_library_part(const struct dml_data *data, enum dml_data_part part);

#endif
