#include "train/ranks.h"

#include "base/memory.h"
#include "base/messages.h"
#include "base/progress.h"

#include <stdlib.h>
#include <string.h>

/* A rank's message for a step: this, its labels, its indices, its embeddings. */
struct header {
    uint32_t stop, save;
};

enum dml_status dml_ranks_open(struct dml_comm *comm, size_t bs, size_t dim,
                               struct dml_run_ranks *out) {
    size_t ranks = (size_t)comm->size, part = bs / ranks;
    *out = (struct dml_run_ranks){
        .comm = comm, .part = part, .first = part * (size_t)comm->rank, .bs = bs, .dim = dim};
    out->message = sizeof(struct header) + part * (sizeof *out->labels + sizeof *out->indices +
                                                   dim * sizeof *out->embeddings);
    out->embeddings = dml_alloc_aligned(bs * dim, sizeof *out->embeddings);
    out->labels = dml_alloc(bs, sizeof *out->labels);
    out->indices = dml_alloc(bs, sizeof *out->indices);
    out->messages = dml_alloc(ranks, out->message);
    out->records = dml_alloc(ranks, sizeof *out->records);
    bool made = out->embeddings && out->labels && out->indices && out->messages && out->records;
    return made ? DML_OK : DML_ERROR_MEMORY;
}

void dml_ranks_close(struct dml_run_ranks *ranks) {
    free(ranks->embeddings);
    free(ranks->labels);
    free(ranks->indices);
    free(ranks->messages);
    free(ranks->records);
    *ranks = (struct dml_run_ranks){.comm = ranks->comm};
}

static void append(char **at, const void *data, size_t bytes) {
    memcpy(*at, data, bytes);
    *at += bytes;
}

static void take(const char **at, void *data, size_t bytes) {
    memcpy(data, *at, bytes);
    *at += bytes;
}

enum dml_status dml_ranks_gather(struct dml_run_ranks *r, const struct dml_loaded *own, bool stop,
                                 bool save) {
    struct header header = {stop, save};
    size_t part = r->part, dim = r->dim;
    char *to = r->messages + (size_t)r->comm->rank * r->message;
    append(&to, &header, sizeof header);
    append(&to, own->labels, part * sizeof *r->labels);
    append(&to, own->indices, part * sizeof *r->indices);
    append(&to, r->embeddings + r->first * dim, part * dim * sizeof *r->embeddings);
    enum dml_status status = dml_comm_allgather(
        r->comm, r->messages + (size_t)r->comm->rank * r->message, r->message, r->messages);
    r->stop = r->save = false;
    for (size_t k = 0; !status && k < (size_t)r->comm->size; k++) {
        const char *from = r->messages + k * r->message;
        take(&from, &header, sizeof header);
        r->stop = r->stop || header.stop;
        r->save = k == 0 ? header.save : r->save;
        take(&from, r->labels + k * part, part * sizeof *r->labels);
        take(&from, r->indices + k * part, part * sizeof *r->indices);
        take(&from, r->embeddings + k * part * dim, part * dim * sizeof *r->embeddings);
    }
    return status;
}

static enum dml_status gather(void *comm, const void *mine, size_t bytes, void *all) {
    return dml_comm_allgather(comm, mine, bytes, all);
}

static enum dml_status start_sum(void *comm, float *values, size_t count) {
    return dml_comm_sum_start(comm, values, count);
}

static enum dml_status advance_sums(void *comm, bool wait) {
    return dml_comm_sum_advance(comm, wait);
}

static enum dml_status wait_for(void *comm, bool (*done)(void *what), void *what) {
    return dml_comm_wait(comm, done, what);
}

struct dml_batch_parts dml_ranks_parts(struct dml_comm *comm) {
    return (struct dml_batch_parts){.count = comm->size,
                                    .index = comm->rank,
                                    .gather = gather,
                                    .start_sum = start_sum,
                                    .advance_sums = advance_sums,
                                    .sum_piece = dml_comm_sum_piece(comm),
                                    .wait = wait_for,
                                    .data = comm};
}

enum dml_status dml_ranks_share_statistics(struct dml_comm *comm, struct dml_network *network) {
    const struct dml_graph *graph = network->graph;
    enum dml_status status = DML_OK;
    for (int i = 0; !status && comm->size > 1 && i < graph->param_count; i++) {
        size_t count = graph->params[i].count;
        if (dml_param_learnable(&graph->params[i]))
            continue;
        float *values = dml_alloc(count, sizeof *values);
        status = values ? dml_network_read(network, i, DML_SLOT_VALUE, values) : DML_ERROR_MEMORY;
        if (!status)
            status = dml_comm_broadcast(comm, values, count * sizeof *values);
        if (!status)
            status = dml_network_write(network, i, DML_SLOT_VALUE, values);
        free(values);
    }
    return status;
}

static void tell_of(const struct dml_part *part, size_t image, unsigned char flags, size_t rank) {
    if (flags & DML_TOLD_UNREADABLE)
        dml_warn("%s: cannot be read by rank %zu; another image of its class takes its place",
                 part->paths[image], rank);
    if (flags & DML_TOLD_CORRUPT)
        dml_warn("%s: is corrupt, as rank %zu found; what can be decoded of it is used",
                 part->paths[image], rank);
}

enum dml_status dml_ranks_share_told(struct dml_comm *comm, const struct dml_part *const *parts,
                                     size_t count) {
    size_t images = 0, at = 0, ranks = (size_t)comm->size;
    if (comm->size == 1)
        return DML_OK;
    for (size_t p = 0; p < count; p++)
        images += parts[p]->images;
    unsigned char *all = dml_alloc(ranks, images), *own = all + (size_t)comm->rank * images;
    if (!all)
        return DML_ERROR_MEMORY;
    for (size_t p = 0; p < count; p++)
        for (size_t i = 0; i < parts[p]->images; i++)
            own[at++] = atomic_load(&parts[p]->told[i]);
    enum dml_status status = dml_comm_allgather(comm, own, images, all);
    at = 0;
    for (size_t p = 0; !status && p < count; p++)
        for (size_t i = 0; i < parts[p]->images; i++, at++)
            for (size_t r = 0; r < ranks; r++) {
                unsigned char flags = all[r * images + at];
                unsigned char before = atomic_fetch_or(&parts[p]->told[i], flags);
                if (comm->rank == 0 && (flags & ~before))
                    tell_of(parts[p], i, flags & (unsigned char)~before, r);
            }
    free(all);
    return status;
}

void dml_ranks_begin(struct dml_run_ranks *r) {
    r->started = dml_now();
    r->waited_before = r->comm->waited;
}

static void print_records(const struct dml_run_ranks *r) {
    dml_inform("\nranks: images per second while computing, share of the time spent waiting");
    for (int i = 0; i < r->comm->size; i++)
        dml_inform("  rank %-4d %s, %d thread%s: %.4g images/s, %.1f %%", i, r->records[i].host,
                   r->records[i].threads, r->records[i].threads == 1 ? "" : "s",
                   r->records[i].images_per_second, 100 * r->records[i].wait_share);
}

enum dml_status dml_ranks_measure(struct dml_run_ranks *r, size_t steps, size_t *count) {
    double own[2] = {dml_now() - r->started, r->comm->waited - r->waited_before};
    double all[r->comm->size][2];
    *count = 0;
    if (r->comm->size == 1 || steps == 0)
        return DML_OK;
    enum dml_status status = dml_comm_allgather(r->comm, own, sizeof own, all);
    for (int i = 0; !status && i < r->comm->size; i++) {
        double seconds = all[i][0], working = seconds - all[i][1];
        r->records[i] = (struct dml_rank_record){
            .rank = i,
            .threads = r->comm->ranks[i].threads,
            .host = r->comm->ranks[i].host,
            .images_per_second = working > 0 ? (double)(steps * r->part) / working : 0,
            .wait_share = seconds > 0 ? all[i][1] / seconds : 0};
        *count = (size_t)r->comm->size;
    }
    if (!status && r->comm->rank == 0 && !r->shown)
        print_records(r);
    r->shown = true;
    return status;
}

enum dml_status dml_ranks_print(struct dml_comm *comm, const struct dml_network *network) {
    char card[64] = "", cards[comm->size][sizeof card];
    if (comm->size == 1)
        return DML_OK;
    if (network->backend != &dml_backend_cpu) {
        dml_network_describe(network, card, sizeof card);
        card[strcspn(card, ",")] = 0; /* versions follow */
    }
    enum dml_status status = dml_comm_allgather(comm, card, sizeof card, cards);
    if (status)
        return status;
    dml_inform("ranks: %d, by %s", comm->size, comm->transport->version());
    for (int r = 0; r < comm->size; r++)
        dml_inform("  rank %-4d %s, process %d, %d thread%s%s%s", r, comm->ranks[r].host,
                   (int)comm->ranks[r].pid, (int)comm->ranks[r].threads,
                   comm->ranks[r].threads == 1 ? "" : "s", *cards[r] ? ", " : "", cards[r]);
    return DML_OK;
}
