#include "plan/steps.h"

#include "base/memory.h"

#include <stdlib.h>

/* Larger slots first, so that small ones fill the gaps. */
struct order {
    const struct plan_slot *slots;
    int index;
};
static int by_size(const void *a, const void *b) {
    const struct order *x = a, *y = b;
    size_t p = x->slots[x->index].bytes, q = y->slots[y->index].bytes;
    return p != q ? (p < q) - (p > q) : x->index - y->index;
}

static bool overlap(const struct plan_slot *a, const struct plan_slot *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* The lowest place for `slot` beside those of `placed` (ordered by offset) that are alive at the
 * same time. */
static size_t find_place(const struct plan_slot *slots, const int *placed, size_t count,
                         const struct plan_slot *slot) {
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        const struct plan_slot *other = &slots[placed[i]];
        if (!overlap(slot, other) || other->offset + other->bytes <= offset)
            continue;
        if (other->offset >= offset + slot->bytes)
            break;
        offset = other->offset + other->bytes;
    }
    return offset;
}

enum dml_status plan_place(struct plan *plan) {
    size_t count = plan->slot_count, done = 0;
    struct order *order = dml_alloc(count, sizeof *order);
    int *placed = dml_alloc(count, sizeof *placed);
    if (!order || !placed) {
        free(order);
        free(placed);
        return DML_ERROR_MEMORY;
    }
    for (size_t i = 0; i < count; i++)
        order[i] = (struct order){plan->slots, (int)i};
    qsort(order, count, sizeof *order, by_size);
    for (size_t i = 0; i < count; i++) {
        struct plan_slot *slot = &plan->slots[order[i].index];
        if (slot->first < 0)
            continue;
        slot->offset = find_place(plan->slots, placed, done, slot);
        size_t at = done++;
        for (; at > 0 && plan->slots[placed[at - 1]].offset > slot->offset; at--)
            placed[at] = placed[at - 1];
        placed[at] = order[i].index;
        if (slot->offset + slot->bytes > plan->arena_bytes)
            plan->arena_bytes = slot->offset + slot->bytes;
    }
    free(order);
    free(placed);
    return DML_OK;
}
