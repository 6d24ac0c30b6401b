#include "records.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* One field of a message of Protocol Buffers. */
struct field {
    int number;
    uint64_t value;            /* of an integer */
    const unsigned char *data; /* of everything else */
    size_t size;
};

static bool read_integer(const unsigned char **at, const unsigned char *end, uint64_t *out) {
    *out = 0;
    for (int shift = 0; *at < end && shift < 64; shift += 7) {
        unsigned char byte = *(*at)++;
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static bool next_field(const unsigned char **at, const unsigned char *end, struct field *out) {
    uint64_t tag, size = 0;
    *out = (struct field){0};
    if (*at >= end || !read_integer(at, end, &tag))
        return false;
    out->number = (int)(tag >> 3);
    if ((tag & 7) == 0)
        return read_integer(at, end, &out->value);
    if ((tag & 7) == 2 ? !read_integer(at, end, &size) : false)
        return false;
    out->size = (tag & 7) == 1 ? 8 : (tag & 7) == 5 ? 4 : (size_t)size;
    out->data = *at;
    if (out->size > (size_t)(end - *at))
        return false;
    *at += out->size;
    return true;
}

static unsigned long sum_of(const struct field *field) {
    return crc32_z(0, field->data, field->size);
}

/* Summary.Value: its tag and a sum of the rest. */
static void print_value(const struct field *message) {
    const unsigned char *at = message->data, *end = at + message->size;
    struct field field;
    bool time = false;
    while (next_field(&at, end, &field)) {
        if (field.number == 1) {
            fputc(' ', stdout);
            fwrite(field.data, 1, field.size, stdout);
            time = field.size == 10 && memcmp(field.data, "Train/time", 10) == 0;
        } else {
            printf("=%08lx", time ? 0 : sum_of(&field));
        }
    }
}

static void print_event(const unsigned char *data, size_t size) {
    const unsigned char *at = data;
    struct field field, value;
    printf("  event");
    while (next_field(&at, data + size, &field)) {
        if (field.number == 2) {
            printf(" step %llu", (unsigned long long)field.value);
        } else if (field.number == 3) {
            fputc(' ', stdout);
            fwrite(field.data, 1, field.size, stdout);
        }
        const unsigned char *inner = field.data;
        while (field.number == 5 && next_field(&inner, field.data + field.size, &value))
            print_value(&value);
    }
    putchar('\n');
}

void print_events(const unsigned char *data, size_t size) {
    while (size >= 16) {
        uint64_t length;
        memcpy(&length, data, 8);
        if (length > size - 16)
            break;
        print_event(data + 12, (size_t)length);
        data += length + 16;
        size -= (size_t)length + 16;
    }
    if (size > 0)
        printf("  torn: %zu bytes\n", size);
}

/* An item of history, summary or config: keys and value. */
static void print_item(const struct field *message) {
    static const char *const times[] = {"_runtime", "_timestamp", "Train: time"};
    const unsigned char *at = message->data, *end = at + message->size;
    struct field field;
    bool time = false;
    while (next_field(&at, end, &field)) {
        for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
            time = time || (field.number == 2 && field.size == strlen(times[i]) &&
                            memcmp(field.data, times[i], field.size) == 0);
        if (field.data)
            printf(" %.*s", time && field.number == 16 ? 0 : (int)field.size,
                   (const char *)field.data);
        else
            printf(" %llu", (unsigned long long)field.value);
    }
    putchar(';');
}

/* History (2), summary (3) and config (5) whole; of the others their kind, and of the exit its
 * code. */
static void print_record(const unsigned char *data, size_t size) {
    const unsigned char *at = data;
    struct field field, item;
    printf("  record");
    while (next_field(&at, data + size, &field)) {
        const unsigned char *inner = field.data;
        if (field.number == 1)
            printf(" %llu", (unsigned long long)field.value);
        else if (field.number != 200)
            printf(" kind %d", field.number);
        bool items = field.number == 2 || field.number == 3 || field.number == 5;
        while (inner && next_field(&inner, field.data + field.size, &item)) {
            if (items && item.data)
                print_item(&item);
            else if (field.number == 18 && item.number == 1)
                printf(" code %llu", (unsigned long long)item.value);
        }
    }
    putchar('\n');
}

void print_wandb(const unsigned char *data, size_t size) {
    unsigned char *record = malloc(size + 1);
    size_t length = 0, at = 7;
    while (record && at + 7 <= size) {
        size_t left = 32768 - at % 32768;
        if (left < 7) {
            at += left;
            continue;
        }
        size_t piece = (size_t)data[at + 4] | (size_t)data[at + 5] << 8;
        unsigned char kind = data[at + 6];
        if (piece > size - at - 7 || kind < 1 || kind > 4)
            break;
        memcpy(record + length, data + at + 7, piece);
        length += piece;
        at += 7 + piece;
        if (kind == 1 || kind == 4) {
            print_record(record, length);
            length = 0;
        }
    }
    if (at != size || length > 0)
        printf("  torn: %zu bytes\n", size - at + length);
    free(record);
}
