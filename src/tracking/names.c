#include "tracking/names.h"

#include <stdio.h>
#include <string.h>

void dml_metric_family(const char *metric, char family[DML_NAME_SIZE]) {
    snprintf(family, DML_NAME_SIZE, "%.*s", (int)strcspn(metric, "@"), metric);
}

void dml_metric_online_name(const char *part, const char *metric, char name[DML_NAME_SIZE]) {
    char family[DML_NAME_SIZE];
    dml_metric_family(metric, family);
    int length = snprintf(name, DML_NAME_SIZE, "%.20s: discriminative_%.40s", part, family);
    snprintf(name + length, DML_NAME_SIZE - (size_t)length, ": %.40s", metric);
}

const struct dml_studys_name *dml_studys_name_of(const char *value) {
    static const struct dml_studys_name names[] = {
        {"grad_rms", "Model Grad", "L2", "Grad L2"},
        {"grad_max", "Model Grad", "Max", "Grad Max"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i].value, value) == 0)
            return &names[i];
    return NULL;
}

enum dml_status dml_metric_families(
    const struct dml_part_record *part,
    enum dml_status (*use)(void *data, const char *family,
                           const struct dml_metric_value *const *values, size_t count),
    void *data) {
    for (size_t i = 0; i < part->count; i++) {
        const struct dml_metric_value *values[DML_FAMILY_MAX];
        char family[DML_NAME_SIZE], other[DML_NAME_SIZE];
        size_t count = 0;
        bool seen = dml_metric_is_vector(&part->metrics[i]);
        dml_metric_family(part->metrics[i].name, family);
        for (size_t j = 0; j < part->count && !seen; j++) {
            dml_metric_family(part->metrics[j].name, other);
            if (dml_metric_is_vector(&part->metrics[j]) || strcmp(family, other) != 0)
                continue;
            if (j < i)
                seen = true;
            else if (count < DML_FAMILY_MAX)
                values[count++] = &part->metrics[j];
        }
        enum dml_status status = seen ? DML_OK : use(data, family, values, count);
        if (status)
            return status;
    }
    return DML_OK;
}
