#include "comm/comm.h"

#include "base/memory.h"
#include "comm/wait.h"

#include <stdlib.h>
#include <string.h>

/* Sums over the ranks that go on while the caller computes. They are divided into pieces, of which
 * some are under way at a time. Of a piece every rank sums one slice: it gets the others' parts of
 * it, adds them in the order of ranks, and sends the sum to all. A rank may be some pieces ahead of
 * another one, so that messages of a piece have tags of their own. */

enum { UNDER_WAY = 4, TAGS = 2 * UNDER_WAY, SLICE = 1 << 18, SMALLEST_SLICE = 1 << 15 };

struct piece {
    float *values;
    size_t count, slice;
    float *parts; /* (ranks, slice) of this rank's slice */
    size_t capacity;
    int tag;        /* of the parts; that of the sums follows */
    bool spreading; /* this rank's sum is under way to all */
    struct dml_calls calls;
};

/* What the caller wants summed, less the pieces of it that have begun. */
struct range {
    float *values;
    size_t count;
};

struct dml_comm_sums {
    struct range *ranges;
    size_t count, capacity;
    size_t range;   /* the first of which something is left */
    unsigned begun; /* pieces so far */
    struct piece pieces[UNDER_WAY];
};

/* A slice of 1 MB stays near its core; with many ranks their slices get smaller, so that the first
 * sums can begin early, but not so small that messages take longer than their bytes. */
size_t dml_comm_sum_piece(const struct dml_comm *comm) {
    size_t ranks = (size_t)comm->size, most = ranks * SLICE, least = ranks * SMALLEST_SLICE;
    size_t wanted = (size_t)1 << 20;
    return wanted < least ? least : wanted < most ? wanted : most;
}

void dml_comm_sums_free(struct dml_comm *comm) {
    struct dml_comm_sums *sums = comm->sums;
    for (int i = 0; sums && i < UNDER_WAY; i++) {
        free(sums->pieces[i].parts);
        free(sums->pieces[i].calls.items);
    }
    if (sums)
        free(sums->ranges);
    free(sums);
    comm->sums = NULL;
}

static void add(float *sum, const float *values, size_t count) {
#pragma omp parallel for simd schedule(static) if (count > 16384)
    for (size_t i = 0; i < count; i++)
        sum[i] += values[i];
}

/* Where the slice of rank r begins; that of rank `size` is the end. */
static size_t slice_at(const struct piece *piece, int r) {
    size_t at = (size_t)r * piece->slice;
    return at < piece->count ? at : piece->count;
}

static size_t slice_floats(const struct piece *piece, int r) {
    return slice_at(piece, r + 1) - slice_at(piece, r);
}

static struct dml_transfer transfer(float *values, size_t floats, int rank) {
    return (struct dml_transfer){values, floats * sizeof *values, rank};
}

/* Every rank's part of each slice, to the one that sums it. */
static enum dml_status send_parts(struct dml_comm *comm, struct piece *piece) {
    struct dml_transfer sends[comm->size], receives[comm->size];
    size_t n = 0, m = 0, own = slice_floats(piece, comm->rank);
    for (int r = 0; r < comm->size; r++) {
        size_t floats = slice_floats(piece, r);
        if (r != comm->rank && floats)
            sends[n++] = transfer(piece->values + slice_at(piece, r), floats, r);
        if (r != comm->rank && own)
            receives[m++] = transfer(piece->parts + (size_t)r * piece->slice, own, r);
    }
    return dml_comm_post(comm, &piece->calls, piece->tag, sends, n, receives, m);
}

/* The sum of this rank's slice, in the order of ranks, to all others. */
static enum dml_status send_sum(struct dml_comm *comm, struct piece *piece) {
    struct dml_transfer sends[comm->size], receives[comm->size];
    size_t n = 0, m = 0, own = slice_floats(piece, comm->rank);
    float *mine = piece->values + slice_at(piece, comm->rank);
    if (own) {
        memcpy(piece->parts + (size_t)comm->rank * piece->slice, mine, own * sizeof *mine);
        memcpy(mine, piece->parts, own * sizeof *mine);
        for (int r = 1; r < comm->size; r++)
            add(mine, piece->parts + (size_t)r * piece->slice, own);
    }
    for (int r = 0; r < comm->size; r++) {
        size_t floats = slice_floats(piece, r);
        if (r != comm->rank && own)
            sends[n++] = transfer(mine, own, r);
        if (r != comm->rank && floats)
            receives[m++] = transfer(piece->values + slice_at(piece, r), floats, r);
    }
    piece->spreading = true;
    return dml_comm_post(comm, &piece->calls, piece->tag + 1, sends, n, receives, m);
}

/* Begins the next piece in a place that is free. */
static enum dml_status begin_piece(struct dml_comm *comm, struct piece *piece) {
    struct dml_comm_sums *sums = comm->sums;
    struct range *range = &sums->ranges[sums->range];
    size_t most = dml_comm_sum_piece(comm), ranks = (size_t)comm->size;
    piece->values = range->values;
    piece->count = range->count < most ? range->count : most;
    piece->slice = (piece->count + ranks - 1) / ranks;
    piece->tag = DML_TAG_SUMS + 2 * (int)(sums->begun++ % TAGS);
    piece->spreading = false;
    range->values += piece->count;
    range->count -= piece->count;
    sums->range += range->count == 0;
    size_t floats = ranks * piece->slice;
    if (floats > piece->capacity) {
        free(piece->parts);
        piece->capacity = 0;
        piece->parts = dml_alloc(floats, sizeof *piece->parts);
        if (!piece->parts)
            return DML_ERROR_MEMORY;
        piece->capacity = floats;
    }
    return send_parts(comm, piece);
}

/* As far as messages have come. */
static enum dml_status advance_piece(struct dml_comm *comm, struct piece *piece, bool *moved) {
    size_t before = piece->calls.count;
    enum dml_status status = dml_comm_test(comm, &piece->calls);
    *moved = *moved || piece->calls.count < before;
    while (!status && piece->count && piece->calls.count == 0) {
        *moved = true;
        if (piece->spreading)
            piece->count = 0; /* done */
        else
            status = send_sum(comm, piece);
    }
    return status;
}

/* The next piece has its place, which that of UNDER_WAY pieces before must have left. */
static struct piece *next_place(struct dml_comm_sums *sums) {
    struct piece *piece = &sums->pieces[sums->begun % UNDER_WAY];
    return sums->range < sums->count && !piece->count ? piece : NULL;
}

static enum dml_status advance(struct dml_comm *comm, void *what, struct dml_waiting *waiting) {
    struct dml_comm_sums *sums = what;
    enum dml_status status = DML_OK;
    waiting->done = true;
    for (int i = 0; !status && i < UNDER_WAY; i++)
        if (sums->pieces[i].count)
            status = advance_piece(comm, &sums->pieces[i], &waiting->moved);
    for (struct piece *piece; !status && (piece = next_place(sums));) {
        waiting->moved = true;
        status = begin_piece(comm, piece);
    }
    for (int i = 0; !status && i < UNDER_WAY; i++)
        if (sums->pieces[i].calls.count) {
            waiting->done = false;
            waiting->rank = sums->pieces[i].calls.items[0].rank;
        }
    if (!status && waiting->done)
        sums->count = sums->range = 0;
    return status;
}

enum dml_status dml_comm_sum_advance(struct dml_comm *comm, bool wait) {
    struct dml_waiting waiting = {0};
    if (!comm->sums || (!comm->sums->count && !comm->broken))
        return DML_OK;
    if (wait)
        return dml_comm_wait_while(comm, advance, comm->sums);
    if (comm->broken)
        return dml_comm_disconnected();
    enum dml_status status = advance(comm, comm->sums, &waiting);
    comm->broken = comm->broken || status;
    return status;
}

enum dml_status dml_comm_sum_start(struct dml_comm *comm, float *values, size_t count) {
    if (comm->size == 1 || count == 0)
        return DML_OK;
    if (!comm->sums && !(comm->sums = dml_alloc(1, sizeof *comm->sums)))
        return DML_ERROR_MEMORY;
    struct dml_comm_sums *sums = comm->sums;
    if (dml_grow(&sums->ranges, &sums->capacity, sums->count + 1, sizeof *sums->ranges))
        return DML_ERROR_MEMORY;
    sums->ranges[sums->count++] = (struct range){values, count};
    return dml_comm_sum_advance(comm, false);
}

enum dml_status dml_comm_sum(struct dml_comm *comm, float *values, size_t count) {
    enum dml_status status = dml_comm_sum_start(comm, values, count);
    return status ? status : dml_comm_sum_advance(comm, true);
}
