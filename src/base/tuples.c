#include "dml/tuples.h"

#include "base/batch.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void free_pairs(struct dml_pairs *pairs) {
    free(pairs->anchors);
    free(pairs->others);
    *pairs = (struct dml_pairs){0};
}

static enum dml_status reserve_pairs(struct dml_pairs *pairs, size_t capacity) {
    if (pairs->anchors && capacity <= pairs->capacity)
        return DML_OK;
    free_pairs(pairs);
    size_t items = capacity ? capacity : 1;
    pairs->anchors = calloc(items, sizeof(int32_t));
    pairs->others = calloc(items, sizeof(int32_t));
    if (!pairs->anchors || !pairs->others) {
        free_pairs(pairs);
        return dml_fail(DML_ERROR_MEMORY, "out of memory for %zu pairs", items);
    }
    pairs->capacity = items;
    return DML_OK;
}

void dml_tuples_clear(struct dml_tuples *tuples) {
    tuples->count = tuples->positive_pairs.count = tuples->negative_pairs.count = 0;
}

enum dml_status dml_tuples_reserve_lists(struct dml_tuples *tuples, size_t positive_pairs,
                                         size_t negative_pairs) {
    enum dml_status status = dml_tuples_reserve(tuples, DML_TUPLES_LISTS, 0);
    if (!status)
        status = reserve_pairs(&tuples->positive_pairs, positive_pairs);
    return status ? status : reserve_pairs(&tuples->negative_pairs, negative_pairs);
}

enum dml_status dml_tuples_reserve(struct dml_tuples *tuples, enum dml_tuple_kind kind,
                                   size_t capacity) {
    int32_t **members[] = {&tuples->anchors, &tuples->positives, &tuples->negatives};
    int wanted = kind == DML_TUPLES_TRIPLETS ? 3
                 : kind == DML_TUPLES_PAIRS  ? 2
                 : kind == DML_TUPLES_SETS   ? 1
                                             : 0;
    for (int i = 0; i < 3; i++) {
        bool keep = i < wanted && *members[i] && capacity <= tuples->capacity;
        if (keep)
            continue;
        free(*members[i]);
        *members[i] = NULL;
    }
    free(tuples->fourth);
    tuples->fourth = NULL;
    dml_tuples_clear(tuples);
    tuples->kind = kind;
    size_t items = capacity > tuples->capacity ? capacity : tuples->capacity;
    for (int i = 0; i < wanted; i++) {
        if (*members[i])
            continue;
        *members[i] = calloc(items ? items : 1, sizeof(int32_t));
        if (!*members[i]) {
            tuples->capacity = 0;
            return dml_fail(DML_ERROR_MEMORY, "out of memory for %zu tuples", items);
        }
    }
    tuples->capacity = items;
    return DML_OK;
}

void dml_tuples_free(struct dml_tuples *tuples) {
    free(tuples->anchors);
    free(tuples->positives);
    free(tuples->negatives);
    free(tuples->fourth);
    free_pairs(&tuples->positive_pairs);
    free_pairs(&tuples->negative_pairs);
    memset(tuples, 0, sizeof *tuples);
}

const char *dml_tuple_kind_words(enum dml_tuple_kind kind) {
    switch (kind) {
    case DML_TUPLES_TRIPLETS:
        return "triplets";
    case DML_TUPLES_PAIRS:
        return "pairs of anchor and positive";
    case DML_TUPLES_SETS:
        return "anchors with all their positives and negatives";
    case DML_TUPLES_LISTS:
        return "lists of positive and negative pairs";
    case DML_TUPLES_NONE:
        break;
    }
    return "no tuples";
}
