#include "nn/weights/safetensors.h"

#include "base/json.h"
#include "base/memory.h"

#include <cjson/cJSON.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, NOTE_LIMIT = 10000 };
static const size_t header_limit = (size_t)8 << 20; /* a network of 10,000 tensors needs 1 MiB */
static const char metadata_key[] = "__metadata__";

static uint64_t header_length(const void *bytes) {
    uint64_t length;
    memcpy(&length, bytes, sizeof length);
    return le64toh(length);
}

bool dml_safetensors_detect(const void *bytes, size_t size) {
    const char *text = bytes;
    return size > LENGTH_BYTES && text[LENGTH_BYTES] == '{';
}

static bool whole(const cJSON *item, size_t *out) {
    uint64_t count;
    bool is = dml_json_count(item, &count);
    if (is)
        *out = (size_t)count;
    return is;
}

static bool parse_dtype(const cJSON *item, enum dml_dtype *out) {
    for (int d = 0; d < DML_DTYPE_COUNT && cJSON_IsString(item); d++)
        if (strcmp(item->valuestring, dml_dtype_name((enum dml_dtype)d)) == 0) {
            *out = (enum dml_dtype)d;
            return true;
        }
    return false;
}

static bool parse_shape(const cJSON *shape, struct dml_tensor *out) {
    const cJSON *item;
    if (!cJSON_IsArray(shape))
        return false;
    cJSON_ArrayForEach(item, shape) {
        if (out->dim_count == DML_TENSOR_MAX_DIMS || !whole(item, &out->dims[out->dim_count]))
            return false;
        out->dim_count++;
    }
    return true;
}

/* One entry of the header. `data` is the file after the header, `size` bytes. */
static enum dml_status parse_tensor(const cJSON *entry, const char *data, size_t size,
                                    const char *file, struct dml_tensors *out) {
    struct dml_tensor tensor = {0};
    const char *name = entry->string;
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(entry, "dtype");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    size_t begin, end, need;
    if (!dml_tensor_name_valid(name, strlen(name)))
        return dml_fail(DML_ERROR_INPUT,
                        "%s: a tensor's name is not UTF-8, has control characters "
                        "or more than 1000 bytes",
                        file);
    if (!cJSON_IsObject(entry) ||
        !parse_shape(cJSON_GetObjectItemCaseSensitive(entry, "shape"), &tensor))
        return dml_fail(DML_ERROR_INPUT, "%s: tensor %.200s has no valid shape", file, name);
    if (!parse_dtype(dtype, &tensor.dtype))
        return dml_fail(DML_ERROR_INPUT,
                        "%s: tensor %.200s has elements of type %.20s, which is "
                        "not supported",
                        file, name, cJSON_IsString(dtype) ? dtype->valuestring : "?");
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !whole(offsets->child, &begin) || !whole(offsets->child->next, &end) || begin > end)
        return dml_fail(DML_ERROR_INPUT, "%s: tensor %.200s has no valid offsets", file, name);
    if (end > size)
        return dml_fail(DML_ERROR_INPUT, "%s: is cut short: tensor %.200s ends at byte %zu of %zu",
                        file, name, end, size);
    enum dml_status status =
        dml_tensors_add_view(out, name, tensor.dtype, tensor.dims, tensor.dim_count, data + begin);
    if (status)
        return status == DML_ERROR_INPUT ? dml_fail_within(status, "%s", file) : status;
    need = out->items[out->count - 1].count * dml_dtype_size(tensor.dtype);
    if (need != end - begin)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: tensor %.200s has %zu bytes where its shape needs "
                        "%zu",
                        file, name, end - begin, need);
    return DML_OK;
}

static enum dml_status parse_metadata(const cJSON *metadata, const char *file,
                                      struct dml_tensors *out) {
    const cJSON *item;
    enum dml_status status = DML_OK;
    cJSON_ArrayForEach(item, metadata) {
        if (out->note_count == NOTE_LIMIT)
            return dml_fail(DML_ERROR_INPUT, "%s: has more than %d strings of metadata", file,
                            NOTE_LIMIT);
        if (!cJSON_IsString(item))
            return dml_fail(DML_ERROR_INPUT, "%s: its metadata is not made of strings", file);
        if ((status = dml_tensors_set_note(out, item->string, item->valuestring)))
            return status;
    }
    return status;
}

static int by_place(const void *a, const void *b) {
    const struct dml_tensor *x = *(struct dml_tensor *const *)a,
                            *y = *(struct dml_tensor *const *)b;
    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->count > y->count) - (x->count < y->count); /* empty ones first */
}

/* The tensors must fill the data exactly: no gap, no overlap. */
static enum dml_status check_places(const struct dml_tensors *tensors, const char *data,
                                    size_t size, const char *file) {
    struct dml_tensor **sorted = dml_alloc(tensors->count, sizeof *sorted);
    if (!sorted)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < tensors->count; i++)
        sorted[i] = &tensors->items[i];
    qsort(sorted, tensors->count, sizeof *sorted, by_place);
    enum dml_status status = DML_OK;
    size_t reached = 0;
    for (size_t i = 0; i < tensors->count && !status; i++) {
        size_t begin = (size_t)((const char *)sorted[i]->data - data);
        if (begin < reached)
            status = dml_fail(DML_ERROR_INPUT, "%s: tensor %.200s overlaps tensor %.200s", file,
                              sorted[i]->name, sorted[i - 1]->name);
        else if (begin > reached)
            status = dml_fail(DML_ERROR_INPUT,
                              "%s: %zu bytes before tensor %.200s belong to "
                              "none",
                              file, begin - reached, sorted[i]->name);
        reached = begin + sorted[i]->count * dml_dtype_size(sorted[i]->dtype);
    }
    if (!status && reached != size)
        status = dml_fail(DML_ERROR_INPUT, "%s: has %zu bytes after its last tensor", file,
                          size - reached);
    free(sorted);
    return status;
}

enum dml_status dml_safetensors_parse(const void *bytes, size_t size, const char *name,
                                      struct dml_tensors *out) {
    memset(out, 0, sizeof *out);
    if (!dml_safetensors_detect(bytes, size))
        return dml_fail(DML_ERROR_INPUT, "%s: is not a safetensors file", name);
    uint64_t length = header_length(bytes);
    const char *header = (const char *)bytes + LENGTH_BYTES;
    if (length > header_limit)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: claims a safetensors header of %llu bytes; the limit "
                        "is %zu",
                        name, (unsigned long long)length, header_limit);
    if (length > size - LENGTH_BYTES)
        return dml_fail(DML_ERROR_INPUT, "%s: is cut short inside its safetensors header", name);
    const char *data = header + length;
    size_t left = size - LENGTH_BYTES - (size_t)length;
    static const char malformed[] = "%s: has a malformed safetensors header";
    cJSON *json;
    enum dml_status status = dml_json_parse(header, (size_t)length, &json, malformed, name);
    if (!status && !cJSON_IsObject(json))
        status = dml_fail(DML_ERROR_INPUT, malformed, name);
    for (const cJSON *entry = status ? NULL : json->child; entry && !status; entry = entry->next)
        status = strcmp(entry->string, metadata_key) == 0
                     ? parse_metadata(entry, name, out)
                     : parse_tensor(entry, data, left, name, out);
    if (!status)
        status = check_places(out, data, left, name);
    cJSON_Delete(json);
    if (status)
        dml_tensors_free(out);
    return status;
}

static int by_width(const void *a, const void *b) {
    const struct dml_tensor *x = *(struct dml_tensor *const *)a,
                            *y = *(struct dml_tensor *const *)b;
    size_t width_x = dml_dtype_size(x->dtype), width_y = dml_dtype_size(y->dtype);
    if (width_x != width_y)
        return width_x > width_y ? -1 : 1;
    return (x > y) - (x < y); /* both in the list's own array: its order */
}

static bool describe(cJSON *root, const struct dml_tensor *tensor, size_t begin) {
    cJSON *entry = cJSON_AddObjectToObject(root, tensor->name);
    cJSON *shape, *offsets;
    if (!entry || !cJSON_AddStringToObject(entry, "dtype", dml_dtype_name(tensor->dtype)) ||
        !(shape = cJSON_AddArrayToObject(entry, "shape")) ||
        !(offsets = cJSON_AddArrayToObject(entry, "data_offsets")))
        return false;
    for (int d = 0; d < tensor->dim_count; d++)
        if (!cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensor->dims[d])))
            return false;
    size_t end = begin + tensor->count * dml_dtype_size(tensor->dtype);
    return cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)begin)) &&
           cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)end));
}

/* The header's text, to be freed; NULL when out of memory. */
static char *make_header(const struct dml_tensors *tensors, struct dml_tensor *const *sorted) {
    cJSON *root = cJSON_CreateObject(), *metadata = NULL;
    bool made = root != NULL;
    if (made && tensors->note_count)
        made = (metadata = cJSON_AddObjectToObject(root, metadata_key)) != NULL;
    for (size_t i = 0; made && i < tensors->note_count; i++)
        made = cJSON_AddStringToObject(metadata, tensors->notes[i].key, tensors->notes[i].value);
    size_t begin = 0;
    for (size_t i = 0; made && i < tensors->count; i++) {
        made = describe(root, sorted[i], begin);
        begin += sorted[i]->count * dml_dtype_size(sorted[i]->dtype);
    }
    char *text = made ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    return text;
}

enum dml_status dml_safetensors_write(const char *path, const struct dml_tensors *tensors) {
    struct dml_output output = {0};
    char *header = NULL;
    struct dml_tensor **sorted = dml_alloc(tensors->count, sizeof *sorted);
    enum dml_status status = sorted ? dml_tensors_check_names(tensors, path) : DML_ERROR_MEMORY;
    if (status)
        goto out;
    if (dml_tensors_find(tensors, metadata_key)) {
        status = dml_fail(DML_ERROR_INPUT, "%s: no tensor can be called %s", path, metadata_key);
        goto out;
    }
    for (size_t i = 0; i < tensors->count; i++)
        sorted[i] = &tensors->items[i];
    qsort(sorted, tensors->count, sizeof *sorted, by_width);
    header = make_header(tensors, sorted);
    if (!header) {
        status = dml_fail(DML_ERROR_MEMORY, "out of memory writing %s", path);
        goto out;
    }
    size_t length = strlen(header), padding = (LENGTH_BYTES - length % LENGTH_BYTES) % LENGTH_BYTES;
    if (length + padding > header_limit) {
        status = dml_fail(DML_ERROR_INPUT, "%s: its header would have %zu bytes; the limit is %zu",
                          path, length + padding, header_limit);
        goto out;
    }
    if ((status = dml_output_open(&output, path)))
        goto out;
    uint64_t stored = htole64(length + padding);
    fwrite(&stored, sizeof stored, 1, output.file);
    fprintf(output.file, "%s%*s", header, (int)padding, "");
    for (size_t i = 0; i < tensors->count; i++)
        if (sorted[i]->count)
            fwrite(sorted[i]->data, dml_dtype_size(sorted[i]->dtype), sorted[i]->count,
                   output.file);
    status = dml_output_commit(&output);
out:
    cJSON_free(header);
    free(sorted);
    return status;
}
