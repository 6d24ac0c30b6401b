#include "support/recalls.h"

#include "support/golden.h"

#include <stdlib.h>
#include <string.h>

const char *recall_that_fits(const struct dml_evaluation_set *set, const char *name,
                             char other[64]) {
    const char *at = strchr(name, '@');
    if (!at || !strstr(name, "recall") || dml_metrics_check_set(set, &name, 1) == DML_OK)
        return name;
    assert_non_null(strstr(dml_error(), "k is beyond the set"));
    for (long k = atol(at + 1) - 1; k > 0; k--) {
        snprintf(other, 64, "%.*s@%ld", (int)(at - name), name, k);
        if (dml_metrics_check_set(set, (const char *const *)&other, 1) == DML_OK)
            break;
    }
    return other;
}
