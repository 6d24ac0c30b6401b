#include "data/check.h"

#include "base/memory.h"
#include "data/image.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_THREADS = 32, CHUNK = 64 };

struct check {
    const struct dml_part *parts[3];
    size_t images; /* of all parts */
    atomic_size_t next;
    void (*tell)(void *data, const char *message);
    void *data;
    pthread_mutex_t lock; /* for what follows */
    size_t bad;
    bool starved; /* memory ran out: nothing is said about the images */
    size_t first; /* bad one, in the parts' order */
    enum dml_status status;
    char message[1024]; /* of the first bad one */
};

/* Looks at the i-th image of all parts. */
static enum dml_status look_at(const struct check *check, struct dml_reader *reader, size_t i) {
    const struct dml_part *const *part = check->parts;
    while (i >= (*part)->images)
        i -= (*part++)->images;
    dml_reader_limit(reader, (*part)->max_pixels);
    return dml_reader_check(reader, (*part)->paths[i], dml_part_box(*part, i));
}

static void note(struct check *check, size_t i, enum dml_status status) {
    pthread_mutex_lock(&check->lock);
    check->bad++;
    if (check->tell && status != DML_ERROR_MEMORY)
        check->tell(check->data, dml_error());
    bool starved = status == DML_ERROR_MEMORY && !check->starved;
    check->starved = check->starved || starved;
    if (!check->status || starved || (!check->starved && i < check->first)) {
        check->status = status;
        check->first = i;
        snprintf(check->message, sizeof check->message, "%s", dml_error());
    }
    pthread_mutex_unlock(&check->lock);
}

static void *work(void *data) {
    struct check *check = data;
    struct dml_reader *reader;
    enum dml_status status = dml_reader_new(&reader);
    if (status) {
        note(check, 0, status);
        return NULL;
    }
    for (;;) {
        size_t i = atomic_fetch_add(&check->next, CHUNK);
        if (i >= check->images)
            break;
        for (size_t end = i + CHUNK; i < end && i < check->images; i++) {
            status = look_at(check, reader, i);
            if (status)
                note(check, i, status);
        }
    }
    dml_reader_free(reader);
    return NULL;
}

/* Looks at all images. */
static void run(struct check *check, const struct dml_dataset *dataset) {
    check->parts[0] = &dataset->training;
    check->parts[1] = &dataset->validation;
    check->parts[2] = &dataset->testing;
    for (int p = 0; p < 3; p++)
        check->images += check->parts[p]->images;
    pthread_t threads[MOST_THREADS];
    long processors = sysconf(_SC_NPROCESSORS_ONLN), started = 0;
    pthread_mutex_init(&check->lock, NULL);
    while (started < processors - 1 && started < MOST_THREADS &&
           (size_t)started * CHUNK < check->images &&
           pthread_create(&threads[started], NULL, work, check) == 0)
        started++;
    work(check);
    while (started > 0)
        pthread_join(threads[--started], NULL);
    pthread_mutex_destroy(&check->lock);
}

enum dml_status dml_check_each(const struct dml_dataset *dataset,
                               void (*tell)(void *data, const char *message), void *data,
                               size_t *count) {
    struct check check = {.tell = tell, .data = data};
    run(&check, dataset);
    *count = check.bad;
    return check.starved ? dml_fail(DML_ERROR_MEMORY, "%s", check.message) : DML_OK;
}

enum dml_status dml_check_images(const struct dml_dataset *dataset) {
    struct check check = {.images = 0};
    run(&check, dataset);
    if (check.bad > 1 && !check.starved)
        return dml_fail(check.status, "%s (and %zu more images that cannot be used)", check.message,
                        check.bad - 1);
    return check.status ? dml_fail(check.status, "%s", check.message) : DML_OK;
}
