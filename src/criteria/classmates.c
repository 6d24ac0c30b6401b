#include "criteria/classmates.h"

#include <string.h>

size_t dml_classmates_table(size_t n) {
    size_t size = 2;
    while (size < 2 * n)
        size *= 2;
    return size;
}

void dml_classmates(const int32_t *labels, size_t n, uint32_t *table, uint32_t *next) {
    const size_t size = dml_classmates_table(n);
    memset(table, 0, size * sizeof *table);
    for (size_t i = 0; i < n; i++) {
        /* A table of each label's first sample, plus 1, where its hash or the next free place is.
         */
        size_t place = ((uint32_t)labels[i] * 2654435769u >> 8) % size;
        while (table[place] && labels[table[place] - 1] != labels[i])
            place = (place + 1) % size;
        if (!table[place]) {
            table[place] = (uint32_t)i + 1;
            next[i] = (uint32_t)i;
            continue;
        }
        uint32_t *first = &next[table[place] - 1];
        next[i] = *first;
        *first = (uint32_t)i;
    }
}
