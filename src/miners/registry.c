#include "base/builtin.h"

const struct dml_method *const dml_builtin_miners[] = {
    NULL,
};
