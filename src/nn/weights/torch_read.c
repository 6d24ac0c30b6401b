#include "base/memory.h"
#include "nn/weights/torch_file.h"
#include "nn/weights/torch_state.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

/* The pickled integer 0x1950a86a20f9469cfc6c that begins files of the older format. */
static const unsigned char legacy_magic[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                             0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
enum { LEGACY_PROTOCOL = 1001 };

bool dml_torch_is_zip(const void *bytes, size_t size) {
    return size >= 4 && memcmp(bytes, "PK\3\4", 4) == 0;
}

bool dml_torch_is_legacy(const void *bytes, size_t size) {
    return size >= sizeof legacy_magic && memcmp(bytes, legacy_magic, sizeof legacy_magic) == 0;
}

/* An entry of the archive in new memory. torch.save never compresses; an entry that is stored
 * cannot be larger than the file, so a small file cannot ask for much memory. */
static enum dml_status read_entry(zip_t *zip, zip_uint64_t index, size_t file_size,
                                  const char *file, unsigned char **out, size_t *size) {
    zip_stat_t info;
    if (zip_stat_index(zip, index, 0, &info) != 0)
        return dml_fail(DML_ERROR_INPUT, "%s: %s", file, zip_strerror(zip));
    if (!(info.valid & ZIP_STAT_SIZE) || !(info.valid & ZIP_STAT_COMP_METHOD) ||
        info.comp_method != ZIP_CM_STORE)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: its entry %.200s is compressed, which torch.save "
                        "never does",
                        file, info.name);
    if (info.size > file_size)
        return dml_fail(DML_ERROR_INPUT, "%s: its entry %.200s claims %llu bytes, the file has %zu",
                        file, info.name, (unsigned long long)info.size, file_size);
    *size = (size_t)info.size;
    *out = dml_alloc(*size + 1, 1);
    if (!*out)
        return DML_ERROR_MEMORY;
    zip_file_t *entry = zip_fopen_index(zip, index, 0);
    /* One byte more than there is: the checksum is only compared at the end. */
    if (!entry || zip_fread(entry, *out, *size + 1) != (zip_int64_t)*size) {
        dml_fail(DML_ERROR_INPUT, "%s: its entry %.200s is damaged: %s", file, info.name,
                 entry ? zip_file_strerror(entry) : zip_strerror(zip));
        free(*out);
        *out = NULL;
    }
    if (entry)
        zip_fclose(entry);
    return *out ? DML_OK : DML_ERROR_INPUT;
}

/* Index of NAME/data.pkl; `prefix` gets "NAME/", at most 200 bytes. */
static enum dml_status find_pickle(zip_t *zip, const char *file, zip_uint64_t *index,
                                   char prefix[256]) {
    static const char wanted[] = "data.pkl";
    bool found = false;
    zip_int64_t count = zip_get_num_entries(zip, 0);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        const char *slash = name ? strrchr(name, '/') : NULL;
        if (slash && strcmp(slash + 1, "constants.pkl") == 0)
            return dml_fail(DML_ERROR_INPUT,
                            "%s: is a TorchScript archive, a program with its weights, and not a "
                            "state dict; torch.save(torch.jit.load(...).state_dict()) makes one of "
                            "it",
                            file);
        if (found || !slash || strcmp(slash + 1, wanted) != 0 || slash - name > 200)
            continue;
        snprintf(prefix, 256, "%.*s", (int)(slash + 1 - name), name);
        *index = (zip_uint64_t)i;
        found = true;
    }
    if (found)
        return DML_OK;
    return dml_fail(DML_ERROR_INPUT,
                    "%s: is a zip archive without data.pkl: torch.save did not "
                    "write it",
                    file);
}

/* Archives from big-endian machines have said so since torch 2. */
static enum dml_status read_byte_order(zip_t *zip, const char *prefix, size_t file_size,
                                       const char *file, bool *swapped) {
    char name[300];
    unsigned char *text;
    size_t size;
    snprintf(name, sizeof name, "%sbyteorder", prefix);
    zip_int64_t index = zip_name_locate(zip, name, ZIP_FL_ENC_RAW);
    *swapped = false;
    if (index < 0)
        return DML_OK;
    enum dml_status status = read_entry(zip, (zip_uint64_t)index, file_size, file, &text, &size);
    if (status)
        return status;
    *swapped = size == 3 && memcmp(text, "big", 3) == 0;
    if (!*swapped && (size != 6 || memcmp(text, "little", 6) != 0))
        status = dml_fail(DML_ERROR_INPUT, "%s: has an unknown byte order", file);
    free(text);
    return status;
}

static void swap_bytes(unsigned char *data, size_t count, size_t width) {
    for (unsigned char *end = data + count * width; data < end; data += width)
        for (size_t i = 0; i < width / 2; i++) {
            unsigned char byte = data[i];
            data[i] = data[width - 1 - i];
            data[width - 1 - i] = byte;
        }
}

static enum dml_status load_storage(zip_t *zip, const char *prefix, size_t file_size,
                                    const char *file, bool swapped,
                                    struct dml_torch_storage *storage, size_t *loaded) {
    char name[600];
    size_t size, need = storage->count * storage->width;
    unsigned char *data = NULL;
    if (storage->key_length > 200 || !dml_tensor_name_valid(storage->key, storage->key_length))
        return dml_fail(DML_ERROR_INPUT, "%s: tensor %.200s has a storage with a malformed key",
                        file, storage->user);
    snprintf(name, sizeof name, "%sdata/%.*s", prefix, (int)storage->key_length, storage->key);
    zip_int64_t index = zip_name_locate(zip, name, ZIP_FL_ENC_RAW);
    if (index < 0)
        return dml_fail(DML_ERROR_INPUT, "%s: tensor %.200s: its storage %s is missing", file,
                        storage->user, name);
    enum dml_status status = read_entry(zip, (zip_uint64_t)index, file_size, file, &data, &size);
    if (status)
        return status == DML_ERROR_INPUT ? dml_fail_within(status, "tensor %.200s", storage->user)
                                         : status;
    *loaded += size;
    if (size != need)
        status = dml_fail(DML_ERROR_INPUT,
                          "%s: tensor %.200s: its storage has %zu bytes where "
                          "%zu elements of %s need %zu",
                          file, storage->user, size, storage->count, dml_dtype_name(storage->dtype),
                          need);
    else if (*loaded > file_size)
        status = dml_fail(DML_ERROR_INPUT, "%s: tensor %.200s: its storage overlaps another one",
                          file, storage->user);
    else if (swapped)
        swap_bytes(data, storage->count, storage->width);
    storage->data = storage->owned = data;
    return status;
}

static enum dml_status parse_archive(zip_t *zip, const void *bytes, size_t size, const char *file,
                                     struct dml_tensors *out) {
    char prefix[256];
    zip_uint64_t index = 0;
    unsigned char *text = NULL;
    size_t length = 0, used, loaded = 0;
    bool swapped = false;
    struct dml_pickle pickle = {0};
    struct dml_torch_state state = {0};
    enum dml_status status = find_pickle(zip, file, &index, prefix);
    if (!status)
        status = read_byte_order(zip, prefix, size, file, &swapped);
    if (!status)
        status = read_entry(zip, index, size, file, &text, &length);
    if (!status)
        status = dml_pickle_read(text, length, file, &pickle, &used);
    if (!status)
        status = dml_torch_state_open(&pickle, file, &state, out);
    for (size_t i = 0; i < state.storage_count && !status; i++)
        if (state.storages[i].user)
            status = load_storage(zip, prefix, size, file, swapped, &state.storages[i], &loaded);
    if (!status)
        status = dml_torch_state_tensors(&state, bytes, size, out);
    dml_torch_state_close(&state);
    dml_pickle_free(&pickle);
    free(text);
    return status;
}

enum dml_status dml_torch_parse_zip(const void *bytes, size_t size, const char *file,
                                    struct dml_tensors *out) {
    zip_error_t error;
    memset(out, 0, sizeof *out);
    zip_error_init(&error);
    zip_source_t *source = zip_source_buffer_create(bytes, size, 0, &error);
    zip_t *zip = source ? zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error) : NULL;
    enum dml_status status;
    if (zip) {
        status = parse_archive(zip, bytes, size, file, out);
        zip_discard(zip);
    } else {
        status = dml_fail(DML_ERROR_INPUT, "%s: is cut short or damaged: %s", file,
                          zip_error_strerror(&error));
        if (source)
            zip_source_free(source);
    }
    zip_error_fini(&error);
    if (status)
        dml_tensors_free(out);
    return status;
}

struct cursor {
    const unsigned char *bytes;
    size_t size, at;
    const char *file;
};

static enum dml_status next_pickle(struct cursor *c, struct dml_pickle *out) {
    size_t used = 0;
    enum dml_status status =
        dml_pickle_read(c->bytes + c->at, c->size - c->at, c->file, out, &used);
    c->at += used;
    return status;
}

/* Protocol version, then what the writing machine was like. That does not matter: elements are
 * little-endian whatever it was. */
static enum dml_status skip_preamble(struct cursor *c) {
    struct dml_pickle version = {0}, machine = {0};
    c->at = sizeof legacy_magic;
    enum dml_status status = next_pickle(c, &version);
    if (!status)
        status = next_pickle(c, &machine);
    if (!status &&
        (version.root->kind != DML_PICKLE_INT || version.root->integer != LEGACY_PROTOCOL))
        status = dml_fail(DML_ERROR_INPUT,
                          "%s: has a version of torch's file format that is not "
                          "known",
                          c->file);
    dml_pickle_free(&version);
    dml_pickle_free(&machine);
    return status;
}

/* Element count in 8 bytes, then the elements. */
static enum dml_status take_storage(struct cursor *c, struct dml_torch_storage *storage) {
    const char *user = storage->user ? storage->user : "that is not a weight";
    uint64_t count;
    size_t need = storage->count * storage->width;
    if (storage->data)
        return dml_fail(DML_ERROR_INPUT, "%s: tensor %.200s: its storage is listed twice", c->file,
                        user);
    if (c->size - c->at < sizeof count || c->size - c->at - sizeof count < need)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: is cut short: tensor %.200s needs %zu bytes, %zu are "
                        "left",
                        c->file, user, need + sizeof count, c->size - c->at);
    memcpy(&count, c->bytes + c->at, sizeof count);
    if (le64toh(count) != storage->count)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: tensor %.200s: its storage has %llu elements where "
                        "%zu are announced",
                        c->file, user, (unsigned long long)le64toh(count), storage->count);
    storage->data = c->bytes + c->at + sizeof count;
    c->at += sizeof count + need;
    return DML_OK;
}

/* The list of keys, then the storages in its order. */
static enum dml_status locate_storages(struct cursor *c, struct dml_torch_state *state) {
    struct dml_pickle keys = {0};
    enum dml_status status = next_pickle(c, &keys);
    if (!status && keys.root->kind != DML_PICKLE_LIST)
        status = dml_fail(DML_ERROR_INPUT, "%s: has no list of storages", c->file);
    for (size_t i = 0; !status && i < keys.root->list.count; i++) {
        const struct dml_pickle_value *key = keys.root->list.items[i];
        struct dml_torch_storage *storage =
            key->kind == DML_PICKLE_TEXT
                ? dml_torch_state_find(state, key->text.bytes, key->text.length)
                : NULL;
        status = storage
                     ? take_storage(c, storage)
                     : dml_fail(DML_ERROR_INPUT, "%s: lists a storage that no tensor has", c->file);
    }
    for (size_t i = 0; i < state->storage_count && !status; i++)
        if (state->storages[i].user && !state->storages[i].data)
            status = dml_fail(DML_ERROR_INPUT, "%s: tensor %.200s: its storage is missing", c->file,
                              state->storages[i].user);
    dml_pickle_free(&keys);
    return status;
}

enum dml_status dml_torch_parse_legacy(const void *bytes, size_t size, const char *file,
                                       struct dml_tensors *out) {
    struct cursor c = {.bytes = bytes, .size = size, .file = file};
    struct dml_pickle pickle = {0};
    struct dml_torch_state state = {0};
    memset(out, 0, sizeof *out);
    enum dml_status status = skip_preamble(&c);
    if (!status)
        status = next_pickle(&c, &pickle);
    if (!status)
        status = dml_torch_state_open(&pickle, file, &state, out);
    if (!status)
        status = locate_storages(&c, &state);
    if (!status)
        status = dml_torch_state_tensors(&state, bytes, size, out);
    dml_torch_state_close(&state);
    dml_pickle_free(&pickle);
    if (status)
        dml_tensors_free(out);
    return status;
}
