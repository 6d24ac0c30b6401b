#ifndef DML_BASE_BUILTIN_H
#define DML_BASE_BUILTIN_H

#include "dml/method.h"

/* The methods that come with the library, each list defined in its folder's registry.c and
 * NULL-terminated. A list points to the `method` member that every descriptor starts with. */
extern const struct dml_method *const dml_builtin_criteria[];
extern const struct dml_method *const dml_builtin_miners[];
extern const struct dml_method *const dml_builtin_samplers[];
extern const struct dml_method *const dml_builtin_metrics[];
extern const struct dml_method *const dml_builtin_optimisers[];
extern const struct dml_method *const dml_builtin_schedules[];
/* NULL in libdml-core, which does not compute networks: the list is part of libdml. */
extern const struct dml_method *const dml_builtin_backbones[]
    __attribute__((weak, visibility("hidden")));

#endif
