#include "comm/wait.h"

#include "base/memory.h"
#include "base/progress.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LARGEST = 1 << 28 };

/* What a rank that fails sends to all others. */
struct failure {
    int32_t rank, status;
    int32_t lost; /* the rank that it could not go on without; -1: it failed by itself */
    char text[1000];
};

struct dml_comm_calls {
    struct dml_calls data; /* under way */
    struct failure heard, own;
    struct dml_request listening;
    bool sent; /* `own` */
};

static const char *start_send(struct dml_comm *comm, const void *data, size_t bytes, int rank,
                              int tag, struct dml_request *out) {
    dml_comm_enter(comm, rank);
    const char *error = comm->transport->send(data, bytes, rank, tag, out);
    dml_comm_leave(comm);
    return error;
}

static const char *start_receive(struct dml_comm *comm, void *data, size_t bytes, int rank, int tag,
                                 struct dml_request *out) {
    dml_comm_enter(comm, rank);
    const char *error = comm->transport->receive(data, bytes, rank, tag, out);
    dml_comm_leave(comm);
    return error;
}

static const char *test(struct dml_comm *comm, struct dml_request *request, int rank, bool *done) {
    dml_comm_enter(comm, rank);
    const char *error = comm->transport->test(request, done);
    dml_comm_leave(comm);
    return error;
}

enum dml_status dml_comm_listen(struct dml_comm *comm) {
    comm->calls = dml_alloc(1, sizeof *comm->calls);
    if (!comm->calls)
        return DML_ERROR_MEMORY;
    const char *error = start_receive(comm, &comm->calls->heard, sizeof comm->calls->heard, -1,
                                      DML_TAG_FAILURE, &comm->calls->listening);
    return error ? dml_fail(DML_ERROR_IO, "between ranks: %s", error) : DML_OK;
}

void dml_comm_deafen(struct dml_comm *comm) {
    bool heard = false;
    if (!comm->calls)
        return;
    if (!comm->broken && !test(comm, &comm->calls->listening, -1, &heard) && !heard)
        comm->transport->cancel(&comm->calls->listening);
    free(comm->calls->data.items);
    free(comm->calls);
    comm->calls = NULL;
}

static enum dml_status lose_patience(struct dml_comm *comm, int rank) {
    const struct dml_rank *other = &comm->ranks[rank < 0 ? 0 : rank];
    comm->lost = rank;
    comm->broken = true;
    if (rank < 0)
        return dml_fail(DML_ERROR_IO,
                        "the GPUs of %d ranks have not finished an exchange within %.4g s "
                        "(--rank_limit): one of them is lost",
                        comm->size, comm->limit);
    return dml_fail(DML_ERROR_IO,
                    "rank %d of %d is lost: its process %d on %s has not answered for %.4g s "
                    "(--rank_limit)",
                    rank, comm->size, (int)other->pid, other->host, comm->limit);
}

static enum dml_status hear(struct dml_comm *comm) {
    bool done = false;
    const struct failure *heard = &comm->calls->heard;
    if (test(comm, &comm->calls->listening, -1, &done) || !done)
        return DML_OK;
    comm->broken = true;
    comm->lost = heard->lost;
    if (heard->lost >= 0 || heard->status == DML_ERROR_INTERRUPTED)
        return dml_fail((enum dml_status)heard->status, "%s", heard->text);
    return dml_fail((enum dml_status)heard->status, "rank %d (%s): %s", heard->rank,
                    comm->ranks[heard->rank].host, heard->text);
}

/* The longer nothing comes, the longer the pause; at first it only yields the core to others, as
 * there may be more ranks than cores. */
static void pause_for(unsigned turn) {
    enum { AT_ONCE = 200, LONGEST = 200000 };
    if (turn < AT_ONCE) {
        sched_yield();
        return;
    }
    long pause = 1000L * (turn - AT_ONCE + 1);
    nanosleep(&(struct timespec){0, pause < LONGEST ? pause : LONGEST}, NULL);
}

/* Looks for a rank on this machine whose process has ended. It may have said why: what it sent last
 * may still be under way. */
static enum dml_status look_around(struct dml_comm *comm) {
    static const double LAST_WORDS_SECONDS = 0.1;
    if (dml_comm_watch_lost(comm) < 0)
        return DML_OK;
    for (double until = dml_now() + LAST_WORDS_SECONDS; dml_now() < until;) {
        enum dml_status status = hear(comm);
        if (status)
            return status;
        pause_for(1000);
    }
    comm->lost = dml_comm_watch_lost(comm);
    comm->broken = true;
    return DML_ERROR_IO;
}

/* A message to or from a rank has failed, as MPI libraries that outlive a rank report it, often
 * before its process is seen to have ended. */
static enum dml_status lose_touch(struct dml_comm *comm, int rank, const char *error) {
    static const double SECONDS = 0.5;
    const struct dml_rank *other = &comm->ranks[rank];
    for (double until = dml_now() + SECONDS; dml_now() < until; pause_for(1000))
        if (look_around(comm))
            return DML_ERROR_IO;
    comm->lost = rank;
    comm->broken = true;
    return dml_fail(DML_ERROR_IO,
                    "rank %d of %d is lost: its process %d on %s cannot be reached: %s", rank,
                    comm->size, (int)other->pid, other->host, error);
}

static enum dml_status start(struct dml_comm *comm, struct dml_calls *calls, int tag,
                             const struct dml_transfer *transfer, bool sends) {
    for (size_t at = 0; at < transfer->bytes; at += LARGEST) {
        size_t bytes = transfer->bytes - at < LARGEST ? transfer->bytes - at : LARGEST;
        if (dml_grow(&calls->items, &calls->capacity, calls->count + 1, sizeof *calls->items))
            return DML_ERROR_MEMORY;
        struct dml_call *call = &calls->items[calls->count];
        char *data = (char *)transfer->data + at;
        call->rank = transfer->rank;
        const char *error =
            sends ? start_send(comm, data, bytes, transfer->rank, tag, &call->request)
                  : start_receive(comm, data, bytes, transfer->rank, tag, &call->request);
        if (error)
            return lose_touch(comm, transfer->rank, error);
        calls->count++;
    }
    return DML_OK;
}

enum dml_status dml_comm_post(struct dml_comm *comm, struct dml_calls *calls, int tag,
                              const struct dml_transfer *sends, size_t send_count,
                              const struct dml_transfer *receives, size_t receive_count) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; !status && i < receive_count; i++)
        status = start(comm, calls, tag, &receives[i], false);
    for (size_t i = 0; !status && i < send_count; i++)
        status = start(comm, calls, tag, &sends[i], true);
    return status;
}

enum dml_status dml_comm_test(struct dml_comm *comm, struct dml_calls *calls) {
    size_t left = 0;
    char failure[200] = "";
    int failed = -1;
    for (size_t i = 0; i < calls->count; i++) {
        bool done = false;
        const char *error = test(comm, &calls->items[i].request, calls->items[i].rank, &done);
        if (error && failed < 0) {
            failed = calls->items[i].rank;
            snprintf(failure, sizeof failure, "%s", error);
        }
        if (!done)
            calls->items[left++] = calls->items[i];
    }
    calls->count = left;
    return failed < 0 ? DML_OK : lose_touch(comm, failed, failure);
}

/* A wait under way. */
struct patience {
    double started, looked, left; /* seconds */
};

static struct patience new_patience(const struct dml_comm *comm) {
    double now = dml_now();
    return (struct patience){now, now, comm->limit};
}

/* From time to time looks for a reason to wait no longer. `rank`: one that is waited for; -1: it is
 * not known which. */
static enum dml_status look_up(struct dml_comm *comm, struct patience *patience, int rank) {
    enum { LOOK_MS = 50 };
    static const double END_SECONDS = 0.5;
    double now = dml_now(), passed = now - patience->looked;
    if (passed < LOOK_MS * 1e-3)
        return DML_OK;
    /* time during which all ranks were suspended does not count */
    patience->left -= passed < 10 * LOOK_MS * 1e-3 ? passed : LOOK_MS * 1e-3;
    patience->looked = now;
    enum dml_status status = hear(comm);
    if (!status && rank >= 0 && now - patience->started > END_SECONDS)
        dml_comm_tell_of_end(comm, rank);
    if (!status)
        status = look_around(comm);
    if (!status && patience->left < 0)
        status = lose_patience(comm, rank);
    return status;
}

enum dml_status dml_comm_disconnected(void) {
    return dml_fail(DML_ERROR_IO, "the ranks are disconnected");
}

enum dml_status dml_comm_wait_while(struct dml_comm *comm,
                                    enum dml_status (*advance)(struct dml_comm *comm, void *what,
                                                               struct dml_waiting *waiting),
                                    void *what) {
    if (comm->broken)
        return dml_comm_disconnected();
    struct patience patience = new_patience(comm);
    struct dml_waiting waiting = {.rank = -1};
    enum dml_status status = advance(comm, what, &waiting);
    for (unsigned turn = 0; !status && !waiting.done; turn++) {
        pause_for(turn);
        waiting = (struct dml_waiting){.rank = -1};
        status = advance(comm, what, &waiting);
        if (waiting.moved) {
            turn = 0;
            patience.left = comm->limit;
        }
        if (!status && !waiting.done)
            status = look_up(comm, &patience, waiting.rank);
    }
    comm->broken = comm->broken || status;
    comm->waited += dml_now() - patience.started;
    return status;
}

struct condition {
    bool (*done)(void *what);
    void *what;
};

static enum dml_status look_at(struct dml_comm *comm, void *what, struct dml_waiting *waiting) {
    const struct condition *condition = what;
    (void)comm;
    waiting->done = condition->done(condition->what);
    return DML_OK;
}

enum dml_status dml_comm_wait(struct dml_comm *comm, bool (*done)(void *what), void *what) {
    struct condition condition = {done, what};
    return dml_comm_wait_while(comm, look_at, &condition);
}

static enum dml_status exchange_on(struct dml_comm *comm, void *what, struct dml_waiting *waiting) {
    struct dml_calls *calls = what;
    enum dml_status status = dml_comm_test(comm, calls);
    waiting->done = calls->count == 0;
    if (!waiting->done)
        waiting->rank = calls->items[0].rank;
    return status;
}

enum dml_status dml_comm_exchange(struct dml_comm *comm, const struct dml_transfer *sends,
                                  size_t send_count, const struct dml_transfer *receives,
                                  size_t receive_count) {
    if (comm->broken)
        return dml_comm_disconnected();
    struct dml_calls *calls = &comm->calls->data;
    enum dml_status status =
        dml_comm_post(comm, calls, DML_TAG_DATA, sends, send_count, receives, receive_count);
    comm->broken = comm->broken || status;
    return status ? status : dml_comm_wait_while(comm, exchange_on, calls);
}

/* Sends to all other ranks, for at most a second: some may be gone. One that merely did not answer
 * may wake up, and should know why it ends. */
static void send_all(struct dml_comm *comm, const void *data, size_t bytes, int tag) {
    struct dml_request requests[comm->size];
    bool done[comm->size];
    for (int r = 0; r < comm->size; r++)
        done[r] = r == comm->rank || dml_comm_ended(comm, r) ||
                  start_send(comm, data, bytes, r, tag, &requests[r]) != NULL;
    for (double until = dml_now() + 1; dml_now() < until;) {
        bool all = true;
        for (int r = 0; r < comm->size; r++) {
            if (!done[r] && test(comm, &requests[r], r, &done[r]))
                done[r] = true;
            all = all && done[r];
        }
        if (all)
            break;
        pause_for(1000);
    }
}

enum dml_status dml_comm_fail(struct dml_comm *comm, enum dml_status status) {
    if (!status || comm->size == 1 || !comm->calls || comm->calls->sent)
        return status;
    /* mpirun ends all ranks with a signal when one is lost, which then looks like a user's. Nothing
     * else that this rank found by itself is blamed on one that has ended before it. */
    if (!comm->broken && status == DML_ERROR_INTERRUPTED && look_around(comm))
        status = DML_ERROR_IO;
    struct failure *own = &comm->calls->own;
    *own = (struct failure){.rank = comm->rank, .status = (int32_t)status, .lost = comm->lost};
    snprintf(own->text, sizeof own->text, "%s", dml_error());
    comm->calls->sent = comm->broken = true;
    send_all(comm, own, sizeof *own, DML_TAG_FAILURE);
    return status;
}

void dml_comm_part(struct dml_comm *comm) {
    static char over; /* it may arrive at any time */
    struct dml_request request;
    bool done = false;
    if (!comm->calls)
        return;
    if (comm->rank == 0) {
        send_all(comm, &over, 1, DML_TAG_OVER);
        return;
    }
    if (start_receive(comm, &over, 1, 0, DML_TAG_OVER, &request))
        return;
    for (double until = dml_now() + comm->limit; dml_now() < until && !done;) {
        if (test(comm, &request, 0, &done) || dml_comm_told() || dml_comm_ended(comm, 0))
            break;
        pause_for(1000);
    }
}
