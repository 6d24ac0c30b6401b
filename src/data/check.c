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
    pthread_mutex_t lock; /* for what follows */
    size_t bad;
    size_t first; /* bad one, in the parts' order */
    enum dml_status status;
    char message[1024]; /* of the first bad one */
};

static const char *path_of(const struct check *check, size_t i) {
    for (int p = 0; p < 2; p++) {
        if (i < check->parts[p]->images)
            return check->parts[p]->paths[i];
        i -= check->parts[p]->images;
    }
    return check->parts[2]->paths[i];
}

static void note(struct check *check, size_t i, enum dml_status status) {
    pthread_mutex_lock(&check->lock);
    check->bad++;
    if (!check->status || i < check->first) {
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
            status = dml_reader_check(reader, path_of(check, i));
            if (status)
                note(check, i, status);
        }
    }
    dml_reader_free(reader);
    return NULL;
}

enum dml_status dml_check_images(const struct dml_dataset *dataset) {
    struct check check = {
        .parts = {&dataset->training, &dataset->validation, &dataset->testing},
        .images = dataset->training.images + dataset->validation.images + dataset->testing.images,
    };
    pthread_t threads[MOST_THREADS];
    long processors = sysconf(_SC_NPROCESSORS_ONLN), started = 0;
    pthread_mutex_init(&check.lock, NULL);
    while (started < processors - 1 && started < MOST_THREADS &&
           (size_t)started * CHUNK < check.images &&
           pthread_create(&threads[started], NULL, work, &check) == 0)
        started++;
    work(&check);
    while (started > 0)
        pthread_join(threads[--started], NULL);
    pthread_mutex_destroy(&check.lock);
    if (check.bad > 1)
        return dml_fail(check.status, "%s (and %zu more images that cannot be used)", check.message,
                        check.bad - 1);
    return check.status ? dml_fail(check.status, "%s", check.message) : DML_OK;
}
