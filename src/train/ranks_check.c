#include "base/files.h"
#include "base/memory.h"
#include "dml/params_json.h"
#include "train/ranks.h"
#include "train/run_folder.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What must be the same on all ranks of a run before they begin. */

/* Gives all ranks a text or file of rank 0; free() it. */
static enum dml_status spread(struct dml_comm *comm, char **data, uint64_t *size) {
    enum dml_status status = dml_comm_broadcast(comm, size, sizeof *size);
    if (!status && comm->rank > 0) {
        *data = dml_alloc(*size + 1, 1);
        status = *data ? DML_OK : DML_ERROR_MEMORY;
    }
    return status ? status : dml_comm_broadcast(comm, *data, *size);
}

/* Where a rank finds and keeps things is its own business. */
static bool may_differ(const char *name) {
    static const char *const names[] = {
        "source_path", "save_path", "dataset_csv", "weights", "kernels",    "cache_images", "gpu",
        "plugin",      "params",    "resume",      "ranks",   "rank_limit", "checkpoint",   "out"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static enum dml_status compare(const cJSON *first, const cJSON *own) {
    const cJSON *item;
    cJSON_ArrayForEach(item, first) {
        const cJSON *mine = cJSON_GetObjectItemCaseSensitive(own, item->string);
        if (may_differ(item->string) || cJSON_Compare(item, mine, true))
            continue;
        char *there = cJSON_PrintUnformatted(item);
        char *here = mine ? cJSON_PrintUnformatted(mine) : NULL;
        enum dml_status status =
            dml_fail(DML_ERROR_USAGE, "--%s is %s here, and %s for rank 0", item->string,
                     here ? here : "unknown", there ? there : "other");
        free(there);
        free(here);
        return status;
    }
    return DML_OK;
}

static enum dml_status check_size(const struct dml_comm *comm, const struct dml_params *params) {
    const struct dml_training_options *training = dml_params_options(params, &dml_training_params);
    const struct dml_network_flags *network = dml_params_options(params, &dml_network_params);
    if (training->bs % comm->size)
        return dml_fail(DML_ERROR_USAGE, "--bs %lld cannot be divided among %d ranks",
                        (long long)training->bs, comm->size);
    if (network->micro_bs > 0 && training->bs / comm->size % network->micro_bs)
        return dml_fail(DML_ERROR_USAGE,
                        "--micro_bs %lld does not divide the %lld images of a batch that each of "
                        "%d ranks has",
                        (long long)network->micro_bs, (long long)(training->bs / comm->size),
                        comm->size);
    return DML_OK;
}

enum dml_status dml_ranks_agree(struct dml_comm *comm, const struct dml_params *params) {
    char *own = NULL, *text = NULL;
    if (comm->size == 1)
        return DML_OK;
    enum dml_status status = dml_params_to_json(params, &own);
    uint64_t size = status ? 0 : strlen(own);
    if (!status) {
        text = own;
        status = spread(comm, &text, &size);
    }
    if (!status && comm->rank > 0) {
        cJSON *first = cJSON_Parse(text), *mine = cJSON_Parse(own);
        status = first && mine ? compare(first, mine)
                               : dml_fail(DML_ERROR_MEMORY, "out of memory: parameters as JSON");
        cJSON_Delete(first);
        cJSON_Delete(mine);
    }
    if (text != own)
        free(text);
    free(own);
    char done = 0, all[comm->size]; /* a rank that differs is reported here */
    return status ? status : dml_comm_allgather(comm, &done, 1, all);
}

/* Makes --resume a file that exists in memory only, as "--resume=/proc/self/fd/7"; it stays open
 * until the process ends. */
static enum dml_status keep(const char *data, size_t size, struct dml_params *params) {
    int file = memfd_create("state.safetensors", 0);
    size_t done = 0;
    while (file >= 0 && done < size) {
        ssize_t written = write(file, data + done, size - done);
        if (written <= 0)
            break;
        done += (size_t)written;
    }
    if (file < 0 || done < size)
        return dml_fail(DML_ERROR_IO, "cannot keep rank 0's state in memory");
    char *flag = dml_format("--resume=/proc/self/fd/%d", file);
    enum dml_status status = flag ? dml_params_parse(params, 1, &flag) : DML_ERROR_MEMORY;
    free(flag);
    return status;
}

enum dml_status dml_ranks_adopt(struct dml_comm *comm, struct dml_params *params) {
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    char *state = NULL, *json = NULL;
    uint64_t size = 0, length = 0;
    size_t bytes = 0;
    enum dml_status status = DML_OK;
    char *ranks = dml_format("--ranks=%d", comm->size);
    if (!ranks)
        return DML_ERROR_MEMORY;
    if (comm->size == 1)
        goto out;
    if (comm->rank == 0) {
        if (*setup->resume && dml_resume_has_state(setup->resume))
            status = dml_read_file(setup->resume, &state, &bytes);
        size = bytes;
        if (!status)
            status = dml_params_to_json(params, &json);
        length = json ? strlen(json) : 0;
    } else {
        status = dml_params_clear(params, "resume");
    }
    if (!status)
        status = spread(comm, &json, &length);
    if (!status)
        status = spread(comm, &state, &size);
    if (!status && comm->rank > 0 && size)
        status = keep(state, size, params);
    if (!status && comm->rank > 0)
        status = dml_params_from_json(params, json, false);
    if (!status)
        status = check_size(comm, params);
out:
    if (!status)
        status = dml_params_parse(params, 1, &ranks);
    free(state);
    free(json);
    free(ranks);
    return status;
}

static uint64_t hash_of(uint64_t hash, const void *data, size_t bytes) {
    const unsigned char *at = data;
    for (; bytes >= 8; at += 8, bytes -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    for (; bytes; at++, bytes--)
        hash = (hash ^ *at) * 1099511628211u;
    return hash;
}

static enum dml_status hash_weights(struct dml_network *network, uint64_t *out) {
    enum dml_status status = DML_OK;
    *out = 1;
    for (int i = 0; !status && i < network->graph->param_count; i++) {
        size_t count = network->graph->params[i].count;
        float *values = dml_alloc(count, sizeof *values);
        status = values ? dml_network_read(network, i, DML_SLOT_VALUE, values) : DML_ERROR_MEMORY;
        if (!status)
            *out = hash_of(*out, values, count * sizeof *values);
        free(values);
    }
    return status;
}

/* The first rank whose number is not rank 0's; 0: all are. */
static enum dml_status find_other(struct dml_comm *comm, uint64_t own, int *other) {
    uint64_t all[comm->size];
    enum dml_status status = dml_comm_allgather(comm, &own, sizeof own, all);
    *other = 0;
    for (int r = 1; !status && r < comm->size && !*other; r++)
        *other = all[r] != all[0] ? r : 0;
    return status;
}

enum dml_status dml_ranks_check_weights(struct dml_comm *comm, struct dml_network *network) {
    uint64_t own = 0;
    int other = 0;
    if (comm->size == 1)
        return DML_OK;
    enum dml_status status = hash_weights(network, &own);
    if (!status)
        status = find_other(comm, own, &other);
    if (!status && other)
        status =
            dml_fail(DML_ERROR_INPUT, "the weights of rank %d (%s) are not those of rank 0 (%s)",
                     other, comm->ranks[other].host, comm->ranks[0].host);
    return status;
}

enum dml_status dml_ranks_check_images(struct dml_comm *comm, const struct dml_part *part) {
    uint64_t own = 1;
    int other = 0;
    if (comm->size == 1)
        return DML_OK;
    for (size_t i = 0; i < part->images; i++) {
        const char *slash = strrchr(part->paths[i], '/');
        const char *name = slash ? slash + 1 : part->paths[i];
        struct stat info;
        int64_t size = stat(part->paths[i], &info) == 0 ? (int64_t)info.st_size : -1;
        own = hash_of(own, name, strlen(name) + 1);
        own = hash_of(own, &size, sizeof size);
        own = hash_of(own, &part->labels[i], sizeof part->labels[i]);
    }
    enum dml_status status = find_other(comm, own, &other);
    if (!status && other)
        status =
            dml_fail(DML_ERROR_INPUT,
                     "the images of rank %d (%s) are not those of rank 0 (%s): names, sizes or "
                     "classes differ",
                     other, comm->ranks[other].host, comm->ranks[0].host);
    return status;
}

enum dml_status dml_ranks_check(struct dml_comm *comm, const struct dml_experiment *e) {
    int other = 0;
    if (comm->size == 1)
        return DML_OK;
    enum dml_status status =
        find_other(comm, hash_of(1, e->inventory, strlen(e->inventory)), &other);
    if (!status && other)
        status = dml_fail(DML_ERROR_INPUT,
                          "the data set of rank %d (%s) is not that of rank 0 (%s): names or sizes "
                          "of images differ",
                          other, comm->ranks[other].host, comm->ranks[0].host);
    return status ? status : dml_ranks_check_weights(comm, e->network);
}
