#include "nn/weights/torch_state.h"

#include "base/memory.h"
#include "nn/weights/state_dict.h"
#include "nn/weights/torch_file.h"

#include <stdlib.h>
#include <string.h>

/* Bytes that strided views may expand to, per byte of the file. */
enum { MAX_EXPANSION = 16, ALWAYS_ALLOWED = 1 << 20 };

/* A tensor as a view of a storage. */
struct dml_torch_view {
    char *name;
    struct dml_torch_storage *storage;
    size_t offset, dims[DML_TENSOR_MAX_DIMS], strides[DML_TENSOR_MAX_DIMS]; /* in elements */
    int dim_count;
    size_t count;
};

static const char *const storage_names[DML_DTYPE_COUNT] = {
    [DML_DTYPE_F64] = "DoubleStorage", [DML_DTYPE_F32] = "FloatStorage",
    [DML_DTYPE_F16] = "HalfStorage",   [DML_DTYPE_BF16] = "BFloat16Storage",
    [DML_DTYPE_I64] = "LongStorage",   [DML_DTYPE_I32] = "IntStorage",
    [DML_DTYPE_I16] = "ShortStorage",  [DML_DTYPE_I8] = "CharStorage",
    [DML_DTYPE_U8] = "ByteStorage",    [DML_DTYPE_BOOL] = "BoolStorage",
};

/* Storages of numbers that are passed over: in the older format they must be stepped over, too. */
static const struct {
    const char *name;
    size_t width;
} foreign[] = {
    {"ComplexDoubleStorage", 16}, {"ComplexFloatStorage", 8}, {"QUInt8Storage", 1},
    {"QInt8Storage", 1},          {"QInt32Storage", 4},       {"QUInt4x2Storage", 1},
    {"QUInt2x4Storage", 1},       {"UntypedStorage", 1},
};

const char *dml_torch_storage_name(enum dml_dtype dtype) {
    return storage_names[dtype];
}

static bool size_of(const struct dml_pickle_value *value, size_t *out) {
    if (value->kind != DML_PICKLE_INT || value->integer < 0)
        return false;
    *out = (size_t)value->integer;
    return true;
}

/* The type of a storage by its class: DML_DTYPE_COUNT with a width for those passed over. */
static void find_type(const struct dml_pickle_value *class, struct dml_torch_storage *out) {
    const char *name = class->global.name;
    size_t length = class->global.length;
    out->dtype = DML_DTYPE_COUNT;
    for (int d = 0; d < DML_DTYPE_COUNT; d++)
        if (strlen(storage_names[d]) == length && memcmp(name, storage_names[d], length) == 0) {
            out->dtype = (enum dml_dtype)d;
            out->width = dml_dtype_size(out->dtype);
        }
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (strlen(foreign[i].name) == length && memcmp(name, foreign[i].name, length) == 0)
            out->width = foreign[i].width;
}

/* ("storage", type, key, location, elements[, view]) */
static bool parse_storage(const struct dml_pickle_value *value, struct dml_torch_storage *out) {
    struct dml_pickle_value *const *items = value->list.items;
    size_t bytes;
    if (value->list.count < 5 || !dml_pickle_is_text(items[0], "storage") ||
        items[1]->kind != DML_PICKLE_GLOBAL || items[1]->global.which != DML_PICKLE_STORAGE_TYPE ||
        items[2]->kind != DML_PICKLE_TEXT || !size_of(items[4], &out->count))
        return false;
    out->key = items[2]->text.bytes;
    out->key_length = items[2]->text.length;
    find_type(items[1], out);
    return !__builtin_mul_overflow(out->count, out->width, &bytes);
}

static int compare_keys(const void *a, const void *b) {
    const struct dml_torch_storage *x = a, *y = b;
    size_t shorter = x->key_length < y->key_length ? x->key_length : y->key_length;
    int order = memcmp(x->key, y->key, shorter);
    return order ? order : (x->key_length > y->key_length) - (x->key_length < y->key_length);
}

/* All storages the pickle mentions, each once; the older format lists them all, used or not. */
static enum dml_status collect_storages(const struct dml_pickle *pickle,
                                        struct dml_torch_state *state) {
    size_t count = 0;
    for (const struct dml_pickle_value *v = pickle->all; v; v = v->next)
        count += v->kind == DML_PICKLE_STORAGE;
    state->storages = dml_alloc(count, sizeof *state->storages);
    if (!state->storages)
        return DML_ERROR_MEMORY;
    count = 0;
    for (const struct dml_pickle_value *v = pickle->all; v; v = v->next)
        if (v->kind == DML_PICKLE_STORAGE && !parse_storage(v, &state->storages[count++]))
            return dml_fail(DML_ERROR_INPUT,
                            "%s: its pickle describes a storage in a way that "
                            "torch.save does not, or one whose size overflows",
                            state->file);
    qsort(state->storages, count, sizeof *state->storages, compare_keys);
    for (size_t i = 0; i < count; i++) {
        const struct dml_torch_storage *next = &state->storages[i], *last = NULL;
        if (state->storage_count > 0)
            last = &state->storages[state->storage_count - 1];
        if (!last || compare_keys(last, next) != 0)
            state->storages[state->storage_count++] = *next;
        else if (last->dtype != next->dtype || last->width != next->width ||
                 last->count != next->count)
            return dml_fail(DML_ERROR_INPUT, "%s: its pickle describes one storage in two ways",
                            state->file);
    }
    return DML_OK;
}

struct dml_torch_storage *dml_torch_state_find(const struct dml_torch_state *state, const char *key,
                                               size_t key_length) {
    struct dml_torch_storage wanted = {.key = key, .key_length = key_length};
    return bsearch(&wanted, state->storages, state->storage_count, sizeof wanted, compare_keys);
}

/* Dimensions and strides, and that the furthest element lies within the storage. NULL: all is
 * well, otherwise what is wrong. */
static const char *parse_view(struct dml_pickle_value *const *items, size_t limit,
                              struct dml_torch_view *out) {
    const struct dml_pickle_value *dims = items[2], *strides = items[3];
    if (dims->kind != DML_PICKLE_LIST || strides->kind != DML_PICKLE_LIST ||
        dims->list.count != strides->list.count)
        return "has no valid shape and strides";
    if (dims->list.count > DML_TENSOR_MAX_DIMS)
        return "has too many axes";
    out->count = 1;
    size_t last = out->offset, reach;
    bool overflow = false;
    for (size_t d = 0; d < dims->list.count; d++) {
        if (!size_of(dims->list.items[d], &out->dims[d]) ||
            !size_of(strides->list.items[d], &out->strides[d]))
            return "has no valid shape and strides";
        overflow |= __builtin_mul_overflow(out->count, out->dims[d], &out->count);
    }
    out->dim_count = (int)dims->list.count;
    if (overflow)
        return "has a shape that overflows";
    if (out->count == 0)
        return NULL;
    for (int d = 0; d < out->dim_count; d++)
        overflow |= __builtin_mul_overflow(out->dims[d] - 1, out->strides[d], &reach) ||
                    __builtin_add_overflow(last, reach, &last);
    return overflow || last >= limit ? "reaches beyond its storage" : NULL;
}

/* _rebuild_tensor(storage, offset, size, stride, ...) */
static const char *parse_tensor(const struct dml_torch_state *state,
                                const struct dml_pickle_value *tensor, struct dml_torch_view *out) {
    struct dml_pickle_value *const *items = tensor->list.items;
    struct dml_torch_storage announced = {0};
    if (tensor->list.count < 4 || items[0]->kind != DML_PICKLE_STORAGE ||
        !parse_storage(items[0], &announced) || !size_of(items[1], &out->offset))
        return "has no valid storage and offset";
    out->storage = dml_torch_state_find(state, announced.key, announced.key_length);
    size_t begin = 0, length = announced.count;
    if (items[0]->list.count > 5 && items[0]->list.items[5]->kind == DML_PICKLE_LIST) {
        /* a storage that is a part of another one: (key, offset, elements) */
        const struct dml_pickle_value *part = items[0]->list.items[5];
        if (part->list.count != 3 || !size_of(part->list.items[1], &begin) ||
            !size_of(part->list.items[2], &length) || begin > announced.count ||
            length > announced.count - begin)
            return "has a storage that reaches beyond the one it is a part of";
    }
    const char *wrong = parse_view(items, length, out);
    out->offset += begin;
    return wrong;
}

static enum dml_status add_view(struct dml_torch_state *state, const struct dml_pickle_value *key,
                                const struct dml_pickle_value *tensor) {
    if (dml_grow(&state->views, &state->view_capacity, state->view_count + 1, sizeof *state->views))
        return DML_ERROR_MEMORY;
    struct dml_torch_view *view = &state->views[state->view_count];
    memset(view, 0, sizeof *view);
    if (!dml_tensor_name_valid(key->text.bytes, key->text.length))
        return dml_fail(DML_ERROR_INPUT,
                        "%s: a tensor's name is not UTF-8, has control characters "
                        "or more than 1000 bytes",
                        state->file);
    view->name = dml_format("%.*s", (int)key->text.length, key->text.bytes);
    if (!view->name)
        return DML_ERROR_MEMORY;
    state->view_count++;
    const char *wrong = parse_tensor(state, tensor, view);
    if (wrong)
        return dml_fail(DML_ERROR_INPUT, "%s: tensor %.200s %s", state->file, view->name, wrong);
    if (view->count > 0 && !view->storage->user)
        view->storage->user = view->name;
    return DML_OK;
}

/* The attribute that dml_torch_write leaves on the dict. */
static enum dml_status read_notes(const struct dml_pickle_value *dict, struct dml_tensors *out) {
    const struct dml_pickle_value *state = dict->list.state;
    const struct dml_pickle_value *notes = state ? dml_pickle_get(state, DML_TORCH_METADATA) : NULL;
    enum dml_status status = DML_OK;
    if (!notes || notes->kind != DML_PICKLE_DICT || notes->list.count > 20000)
        return DML_OK;
    for (size_t i = 0; i + 1 < notes->list.count && !status; i += 2) {
        const struct dml_pickle_value *k = notes->list.items[i], *v = notes->list.items[i + 1];
        if (k->kind != DML_PICKLE_TEXT || v->kind != DML_PICKLE_TEXT)
            continue;
        char *key = strndup(k->text.bytes, k->text.length);
        char *text = strndup(v->text.bytes, v->text.length);
        status = key && text ? dml_tensors_set_note(out, key, text)
                             : dml_fail(DML_ERROR_MEMORY, "out of memory for metadata");
        free(key);
        free(text);
    }
    return status;
}

/* Whether the storage holds the numbers with the other sign: the last argument says so. */
static bool is_negative_view(const struct dml_pickle_value *tensor) {
    const struct dml_pickle_value *last =
        tensor->list.count > 6 ? tensor->list.items[tensor->list.count - 1] : NULL;
    const struct dml_pickle_value *neg =
        last && last->kind == DML_PICKLE_DICT ? dml_pickle_get(last, "neg") : NULL;
    return neg && neg->kind == DML_PICKLE_BOOL && neg->integer;
}

/* Whether it is an array of numbers that have a type here. */
static bool is_known(const struct dml_pickle_value *tensor) {
    struct dml_torch_storage storage = {0};
    return tensor->kind == DML_PICKLE_TENSOR && !is_negative_view(tensor) &&
           !(tensor->list.count > 0 && tensor->list.items[0]->kind == DML_PICKLE_STORAGE &&
             parse_storage(tensor->list.items[0], &storage) && storage.dtype == DML_DTYPE_COUNT);
}

/* What a user should know about what was taken and what was not; nothing for a plain state dict. */
static enum dml_status remark(const char *path, const char *left, const char *foreign_name,
                              size_t foreign_count, struct dml_tensors *out) {
    char others[300] = "";
    if (foreign_count)
        snprintf(others, sizeof others,
                 "%s%zu tensors that are complex, quantised, sparse or of another type of no use "
                 "here (%.100s)",
                 *left ? ", and " : "", foreign_count, foreign_name);
    bool passed = *left || foreign_count;
    if (*path || passed)
        out->remark =
            dml_format("%s%s%s%s%s%s", *path ? "read from " : "", path, *path && passed ? "; " : "",
                       passed ? "passed over: " : "", left, others);
    return out->remark || !(*path || passed) ? DML_OK : DML_ERROR_MEMORY;
}

/* Takes the tensors of the dict; those of an unknown type are counted. */
static enum dml_status add_views(struct dml_torch_state *state, const struct dml_pickle_value *dict,
                                 const char *path, const char *left, struct dml_tensors *out) {
    char first[101] = "";
    size_t passed = 0;
    enum dml_status status = DML_OK;
    for (size_t i = 0; i + 1 < dict->list.count && !status; i += 2) {
        const struct dml_pickle_value *key = dict->list.items[i];
        const struct dml_pickle_value *tensor = dml_state_dict_tensor(dict->list.items[i + 1]);
        if (!tensor || key->kind != DML_PICKLE_TEXT)
            continue;
        if (is_known(tensor))
            status = add_view(state, key, tensor);
        else if (passed++ == 0 && dml_tensor_name_valid(key->text.bytes, key->text.length))
            snprintf(first, sizeof first, "%.*s", (int)key->text.length, key->text.bytes);
    }
    if (!status && state->view_count == 0 && passed > 0)
        status =
            dml_fail(DML_ERROR_INPUT,
                     "%s: all of its tensors are complex, quantised, sparse or of another type "
                     "of no use here",
                     state->file);
    return status ? status : remark(path, left, first, passed, out);
}

enum dml_status dml_torch_state_open(struct dml_pickle *pickle, const char *file,
                                     struct dml_torch_state *state, struct dml_tensors *out) {
    const struct dml_pickle_value *dict = NULL;
    char *path = NULL, *left = NULL;
    memset(state, 0, sizeof *state);
    state->file = file;
    enum dml_status status = dml_state_dict_find(pickle->root, file, &dict, &path, &left);
    if (!status)
        status = collect_storages(pickle, state);
    if (!status)
        status = add_views(state, dict, path, left, out);
    free(path);
    free(left);
    return status ? status : read_notes(dict, out);
}

static bool is_contiguous(const struct dml_torch_view *view) {
    size_t stride = 1;
    for (int d = view->dim_count; d-- > 0;) {
        if (view->dims[d] != 1 && view->strides[d] != stride)
            return false;
        stride *= view->dims[d];
    }
    return true;
}

/* Copies a strided view in C order. */
static void gather(const struct dml_torch_view *view, unsigned char *out) {
    size_t size = view->storage->width, index[DML_TENSOR_MAX_DIMS] = {0};
    const unsigned char *from = view->storage->data + view->offset * size;
    if (is_contiguous(view)) {
        memcpy(out, from, view->count * size);
        return;
    }
    for (size_t i = 0, at = 0; i < view->count; i++) {
        memcpy(out + i * size, from + at * size, size);
        for (int d = view->dim_count; d-- > 0;) {
            at += view->strides[d];
            if (++index[d] < view->dims[d])
                break;
            at -= view->strides[d] * view->dims[d];
            index[d] = 0;
        }
    }
}

enum dml_status dml_torch_state_tensors(const struct dml_torch_state *state, const void *bytes,
                                        size_t size, struct dml_tensors *out) {
    const unsigned char *begin = bytes;
    size_t copied = 0, limit = ALWAYS_ALLOWED + size * MAX_EXPANSION;
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < state->view_count && !status; i++) {
        const struct dml_torch_view *view = &state->views[i];
        const struct dml_torch_storage *storage = view->storage;
        size_t width = storage->width, need;
        /* An empty tensor's storage may be missing and its offset anything. */
        const unsigned char *data = view->count ? storage->data + view->offset * width : begin;
        if (view->count == 0 || (is_contiguous(view) && data >= begin && data < begin + size)) {
            status = dml_tensors_add_view(out, view->name, storage->dtype, view->dims,
                                          view->dim_count, data);
            continue;
        }
        if (__builtin_mul_overflow(view->count, width, &need) || need > limit - copied)
            return dml_fail(DML_ERROR_INPUT,
                            "%s: tensor %.200s repeats its storage to %zu "
                            "elements, more than %d times what the file holds",
                            state->file, view->name, view->count, MAX_EXPANSION);
        copied += need;
        void *copy;
        status =
            dml_tensors_add(out, view->name, storage->dtype, view->dims, view->dim_count, &copy);
        if (!status)
            gather(view, copy);
    }
    return status;
}

void dml_torch_state_close(struct dml_torch_state *state) {
    for (size_t i = 0; i < state->storage_count; i++)
        free(state->storages[i].owned);
    for (size_t i = 0; i < state->view_count; i++)
        free(state->views[i].name);
    free(state->storages);
    free(state->views);
    memset(state, 0, sizeof *state);
}
