#include "base/suggest.h"

#include <string.h>

enum { LONGEST = 96 };

static size_t edit_distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b), row[LONGEST + 1];
    if (n > LONGEST || m > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t corner = row[0]; /* the value up and to the left */
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

struct dml_suggestion dml_suggestion_start(const char *wanted) {
    return (struct dml_suggestion){wanted, NULL, strlen(wanted) / 3 + 1};
}

void dml_suggestion_offer(struct dml_suggestion *suggestion, const char *known) {
    size_t distance = edit_distance(suggestion->wanted, known);
    if (distance < suggestion->distance ||
        (!suggestion->best && distance == suggestion->distance)) {
        suggestion->best = known;
        suggestion->distance = distance;
    }
}
