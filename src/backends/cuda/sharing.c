#include "backends/cuda/sharing.h"

#include "base/memory.h"
#include "base/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cuda_sharing_close(struct cuda_sharing *sharing, const struct cuda_on *on) {
    if (sharing->group)
        on->api->group_leave(sharing->group);
    if (sharing->pieces)
        on->api->release(on->device, sharing->pieces);
    *sharing = (struct cuda_sharing){0};
}

/* What a process tells the others about its card. */
struct offer {
    char usable; /* it can be joined to others */
    char name[CUDA_GROUP_NAME], reason[CUDA_REASON];
};

/* The first process that cannot, and why; NULL: all can. */
static const char *refusal(const struct offer *offers, int count, int *process) {
    for (int p = 0; p < count; p++)
        if (!offers[p].usable) {
            *process = p;
            return offers[p].reason;
        }
    return NULL;
}

/* Joins the cards, if all can be joined. */
static enum dml_status join(struct cuda_sharing *sharing, const struct cuda_params *params,
                            const struct dml_batch_parts *parts) {
    const struct cuda_on *on = params->on;
    int count = parts->count, who = 0;
    size_t slice = (params->learnable + (size_t)count - 1) / (size_t)count;
    struct offer own = {0}, *all = dml_alloc((size_t)count, sizeof *all);
    if (!all)
        return DML_ERROR_MEMORY;
    sharing->tried = true;
    sharing->pieces = on->api->alloc(on->device, slice * (size_t)count * sizeof(float));
    if (sharing->pieces)
        own.usable = on->api->group_name(own.name, own.reason);
    else
        snprintf(own.reason, sizeof own.reason, "there is no memory for it on the card");
    enum dml_status status = parts->gather(parts->data, &own, sizeof own, all);
    const char *reason = status ? NULL : refusal(all, count, &who);
    if (!status && !reason) {
        sharing->group =
            on->api->group_join(on->device, all[0].name, parts->index, count, own.reason);
        own.usable = sharing->group != NULL;
        status = parts->gather(parts->data, &own, sizeof own, all);
        reason = status ? NULL : refusal(all, count, &who);
    }
    if (reason) {
        dml_inform("GPUs exchange gradients through the processors' memory (rank %d: %s)", who,
                   reason);
        cuda_sharing_close(sharing, on);
        sharing->tried = true;
    }
    free(all);
    return status;
}

/* Through the processes' memory. */
static enum dml_status sum_on_host(struct cuda_params *params,
                                   const struct dml_batch_parts *parts) {
    const struct cuda_on *on = params->on;
    size_t bytes = params->learnable * sizeof(float);
    float *host = dml_alloc(params->learnable, sizeof *host);
    if (!host)
        return DML_ERROR_MEMORY;
    on->api->download(on->device, host, params->grads, bytes);
    enum dml_status status = cuda_finish(on);
    if (!status)
        status = parts->start_sum(parts->data, host, params->learnable);
    if (!status)
        status = parts->advance_sums(parts->data, true);
    if (!status)
        on->api->upload(on->device, params->grads, host, bytes);
    free(host);
    return status ? status : cuda_finish(on);
}

struct exchange {
    const struct cuda_on *on;
    struct cuda_group *group;
};

static bool is_done(void *data) {
    const struct exchange *exchange = data;
    return !exchange->on->api->group_busy(exchange->on->device, exchange->group);
}

/* Exchanges these with the other cards. A process that is lost ends it, and with it the group. */
static enum dml_status exchange(struct cuda_sharing *sharing, const struct cuda_on *on,
                                const struct dml_batch_parts *parts,
                                const struct cuda_transfer *transfers, size_t count) {
    struct exchange under_way = {on, sharing->group};
    on->api->group_exchange(on->device, sharing->group, transfers, count);
    enum dml_status status = parts->wait(parts->data, is_done, &under_way);
    if (status) {
        char *error = dml_strdup(dml_error());
        cuda_sharing_close(sharing, on);
        if (error)
            dml_fail(status, "%s", error);
        free(error);
    }
    return status ? status : cuda_finish(on);
}

/* Every process adds one slice: it gets the others' pieces of it, adds them in the order of
 * processes, and sends the sum to all. */
static enum dml_status sum_on_cards(struct cuda_sharing *sharing, struct cuda_params *params,
                                    const struct dml_batch_parts *parts) {
    const struct cuda_on *on = params->on;
    size_t count = (size_t)parts->count, mine = (size_t)parts->index, n = 0, m = 0;
    size_t slice = (params->learnable + count - 1) / count;
    struct cuda_transfer scatter[2 * count], spread[2 * count];
    float *own = params->grads + mine * slice;
    size_t left = params->learnable > mine * slice ? params->learnable - mine * slice : 0;
    size_t floats = left < slice ? left : slice;
    for (size_t p = 0; p < count; p++) {
        size_t at = p * slice, rest = params->learnable > at ? params->learnable - at : 0;
        size_t bytes = (rest < slice ? rest : slice) * sizeof(float);
        int other = (int)p;
        if (p == mine)
            continue;
        if (bytes) {
            scatter[n++] = (struct cuda_transfer){params->grads + at, bytes, other, true};
            spread[m++] = (struct cuda_transfer){params->grads + at, bytes, other, false};
        }
        if (floats) {
            size_t own_bytes = floats * sizeof(float);
            scatter[n++] =
                (struct cuda_transfer){sharing->pieces + p * slice, own_bytes, other, false};
            spread[m++] = (struct cuda_transfer){own, own_bytes, other, true};
        }
    }
    enum dml_status status = exchange(sharing, on, parts, scatter, n);
    if (status)
        return status;
    if (floats) {
        size_t bytes = floats * sizeof(float);
        on->api->copy(on->device, sharing->pieces + mine * slice, own, bytes);
        on->api->copy(on->device, own, sharing->pieces, bytes);
        for (size_t p = 1; p < count; p++)
            on->kernels->add(on->stream, floats, sharing->pieces + p * slice, own);
    }
    return exchange(sharing, on, parts, spread, m);
}

enum dml_status cuda_sum_gradients(struct cuda_sharing *sharing, struct cuda_params *params,
                                   const struct dml_batch_parts *parts) {
    enum dml_status status = sharing->tried ? DML_OK : join(sharing, params, parts);
    if (status)
        return status;
    return sharing->group ? sum_on_cards(sharing, params, parts) : sum_on_host(params, parts);
}
