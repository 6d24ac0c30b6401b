#include "data/loader.h"

#include "base/memory.h"
#include "base/messages.h"
#include "data/cache.h"
#include "data/pipeline.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_THREADS = 256 };
enum { FREE = -1 };

/* Batches that the loader has memory for, the one handed out included: three while they are small,
 * and one where two would take more than this. Nothing is made ahead then, which costs little: a
 * batch of 4,096 images of 224 has 616 MB, and takes the network a hundred times as long as the
 * loader. */
enum { MOST_SLOTS = 3, MEMORY = 512 << 20 };

/* A batch being made, ready, or handed out. */
struct slot {
    struct dml_loaded batch; /* first: batches handed out are slots */
    uint8_t *pixels;
    bool elsewhere; /* `pixels` are from the loader's source */
    int32_t *labels;
    uint32_t *indices;
    struct dml_rect *erased; /* NULL: nothing is */
    int64_t number;          /* of the batch in the pass, FREE */
    size_t done;             /* images */
};

struct worker {
    struct dml_loader *loader;
    struct dml_transformer transformer;
    pthread_t thread;
};

struct dml_loader {
    struct dml_memory_source source; /* of pixels */
    const struct dml_part *part;
    struct dml_transform transform;
    size_t batch_size, image_bytes;
    size_t first, stride; /* dml_loader_place */
    uint64_t seed;
    bool strict;
    struct dml_cache *cache;
    size_t *class_starts; /* (classes + 1) class c has images class_starts[c]..[c+1]-1 */

    struct worker *workers;
    int started;
    struct slot *slots;
    size_t slot_count;

    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t work;  /* producers wait: something can be done, or the end */
    pthread_cond_t ready; /* the consumer waits: a batch is done, or no producer is busy */
    bool stop;
    uint64_t epoch;
    uint32_t *order; /* images of the pass */
    size_t order_capacity, count;
    size_t next;        /* position to be produced */
    int64_t handed;     /* batches handed out */
    int busy;           /* producers working on an image */
    atomic_uchar *told; /* (images) DML_TOLD_*: the part's, or own_told */
    atomic_uchar *own_told;
    size_t replaced, corrupt;
    enum dml_status status;
    char message[1024];
};

/* Whether nobody has reported this about the image before; if so, counts it. */
static bool is_new(struct dml_loader *loader, size_t image, unsigned char what, size_t *count) {
    if (atomic_fetch_or(&loader->told[image], what) & what)
        return false;
    pthread_mutex_lock(&loader->lock);
    ++*count;
    pthread_mutex_unlock(&loader->lock);
    return true;
}

static void report_unreadable(struct dml_loader *loader, size_t image) {
    if (is_new(loader, image, DML_TOLD_UNREADABLE, &loader->replaced))
        dml_warn("%s; another image of its class takes its place", dml_error());
}

/* After the decoding of an image: what could be decoded of a corrupt one is used, as Pillow would,
 * but not silently, and not where every row must be of its own image. */
static enum dml_status check_flaw(struct worker *worker, size_t image) {
    struct dml_loader *loader = worker->loader;
    const char *flaw = dml_reader_flaw(worker->transformer.reader);
    if (flaw && loader->strict)
        return dml_fail(DML_ERROR_INPUT, "%s: %s", loader->part->paths[image], flaw);
    if (flaw && is_new(loader, image, DML_TOLD_CORRUPT, &loader->corrupt))
        dml_warn("%s: %s; what can be decoded of it is used", loader->part->paths[image], flaw);
    return DML_OK;
}

/* A training image, whole: from the cache, or decoded for it. */
static enum dml_status render_whole(struct worker *worker, size_t image,
                                    const struct dml_pixels *cached, struct dml_rng *rng,
                                    uint8_t *out) {
    struct dml_loader *loader = worker->loader;
    struct dml_transformer *own = &worker->transformer;
    const struct dml_pixels *pixels = cached;
    if (!pixels) {
        int width, height;
        enum dml_status status =
            dml_reader_open_box(own->reader, loader->part->paths[image],
                                dml_part_box(loader->part, image), &width, &height);
        if (!status)
            status = dml_reader_decode(own->reader, (struct dml_rect){0, 0, width, height},
                                       &own->pixels);
        if (!status)
            status = check_flaw(worker, image);
        if (status)
            return status;
        pixels = &own->pixels;
        dml_cache_offer(loader->cache, image, pixels->data, width, height);
    }
    struct dml_view view =
        dml_transform_draw(&loader->transform, pixels->rect.width, pixels->rect.height, rng);
    own->erased = view.erased;
    return dml_view_render(&view, &own->resizer, pixels, out);
}

static bool is_about_the_file(enum dml_status status) {
    return status == DML_ERROR_INPUT || status == DML_ERROR_IO;
}

/* Makes one image. What is drawn depends on the seed, the epoch and the position alone. */
static enum dml_status render(struct worker *worker, uint64_t epoch, size_t position, size_t image,
                              uint8_t *out) {
    struct dml_loader *loader = worker->loader;
    struct dml_rng rng = dml_rng_make(loader->seed, DML_PURPOSE_AUGMENT, epoch, position);
    bool evaluation = loader->transform.kind == DML_TRANSFORM_EVALUATION;
    struct dml_pixels cached;
    bool found = dml_cache_find(loader->cache, image, &cached);
    worker->transformer.erased = (struct dml_rect){0, 0, 0, 0};
    if (found && evaluation) {
        memcpy(out, cached.data, loader->image_bytes);
        return DML_OK;
    }
    enum dml_status status;
    if (!evaluation && (found || dml_cache_wants(loader->cache, image))) {
        struct dml_rng same = rng;
        status = render_whole(worker, image, found ? &cached : NULL, &same, out);
        if (!is_about_the_file(status)) /* else the part that is needed may still be whole */
            return status;
    }
    status =
        dml_transform_file(&worker->transformer, &loader->transform, loader->part->paths[image],
                           dml_part_box(loader->part, image), &rng, out);
    if (!status)
        status = check_flaw(worker, image);
    if (!status && evaluation && dml_cache_wants(loader->cache, image))
        dml_cache_offer(loader->cache, image, out, loader->transform.crop, loader->transform.crop);
    return status;
}

/* Makes the image or, if it cannot be read, another of its class; *image says which. It does not
 * matter that an image was found unreadable before: the part that another position needs may be
 * whole, and what a position gets must not depend on which came first. */
static enum dml_status render_or_replace(struct worker *worker, uint64_t epoch, size_t position,
                                         uint32_t *image, uint8_t *out) {
    struct dml_loader *loader = worker->loader;
    int32_t label = loader->part->labels[*image];
    size_t first = loader->class_starts[label], size = loader->class_starts[label + 1] - first;
    struct dml_rng rng = dml_rng_make(loader->seed, DML_PURPOSE_OTHER, epoch, position);
    size_t shift = size > 1 ? 1 + (size_t)dml_rng_below(&rng, size - 1) : 0;
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < size; i++) {
        /* The image itself, then the others of its class from a random one on. */
        size_t at = *image - first, other = at;
        if (i > 0)
            other = (at + 1 + (shift + i - 2) % (size - 1)) % size;
        other += first;
        status = render(worker, epoch, position, other, out);
        if (!status) {
            *image = (uint32_t)other;
            return DML_OK;
        }
        if (loader->strict || !is_about_the_file(status))
            return status;
        report_unreadable(loader, other);
    }
    return dml_fail(DML_ERROR_INPUT, "%s: no image of its class \"%s\" can be read",
                    loader->part->paths[*image], loader->part->class_names[label]);
}

/* The slot of the batch that the next position belongs to; NULL while it is still in use, or when
 * there is nothing to do. */
static struct slot *next_slot(struct dml_loader *loader) {
    if (loader->status || loader->next >= loader->count)
        return NULL;
    int64_t number = (int64_t)(loader->next / loader->batch_size);
    struct slot *slot = &loader->slots[(size_t)number % loader->slot_count];
    if (slot->number == FREE) {
        size_t left = loader->count - (size_t)number * loader->batch_size;
        slot->number = number;
        slot->done = 0;
        slot->batch.n = left < loader->batch_size ? left : loader->batch_size;
    }
    return slot->number == number ? slot : NULL;
}

static void produce(struct worker *worker, struct slot *slot) {
    struct dml_loader *loader = worker->loader;
    size_t position = loader->next++, at = position % loader->batch_size;
    uint64_t epoch = loader->epoch;
    uint32_t image = loader->order[position];
    size_t place = loader->first + position / loader->batch_size * loader->stride + at;
    loader->busy++;
    pthread_mutex_unlock(&loader->lock);
    enum dml_status status =
        render_or_replace(worker, epoch, place, &image, slot->pixels + at * loader->image_bytes);
    pthread_mutex_lock(&loader->lock);
    loader->busy--;
    slot->indices[at] = image;
    slot->labels[at] = loader->part->labels[image];
    if (slot->erased)
        slot->erased[at] = worker->transformer.erased;
    slot->done++;
    if (status && !loader->status) {
        loader->status = status;
        snprintf(loader->message, sizeof loader->message, "%s", dml_error());
    }
    if (slot->done == slot->batch.n || loader->status || loader->busy == 0)
        pthread_cond_broadcast(&loader->ready);
}

static void *work(void *data) {
    struct worker *worker = data;
    struct dml_loader *loader = worker->loader;
    pthread_mutex_lock(&loader->lock);
    while (!loader->stop) {
        struct slot *slot = next_slot(loader);
        if (slot)
            produce(worker, slot);
        else
            pthread_cond_wait(&loader->work, &loader->lock);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

static enum dml_status make_slots(struct dml_loader *loader, size_t memory) {
    size_t n = loader->batch_size, crop = (size_t)loader->transform.crop;
    loader->image_bytes = crop * crop * 3;
    size_t fitting = (memory ? memory : MEMORY) / (n * loader->image_bytes);
    loader->slot_count = fitting < 1 ? 1 : fitting > MOST_SLOTS ? MOST_SLOTS : fitting;
    loader->slots = dml_alloc(loader->slot_count, sizeof *loader->slots);
    if (!loader->slots)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < loader->slot_count; i++) {
        struct slot *slot = &loader->slots[i];
        slot->number = FREE;
        if (loader->source.alloc)
            slot->pixels = loader->source.alloc(loader->source.data, n * loader->image_bytes);
        slot->elsewhere = slot->pixels != NULL;
        if (!slot->pixels)
            slot->pixels = dml_alloc_aligned(n, loader->image_bytes);
        slot->labels = dml_alloc(n, sizeof *slot->labels);
        slot->indices = dml_alloc(n, sizeof *slot->indices);
        if (loader->transform.list && dml_pipeline_erases(loader->transform.list) &&
            !(slot->erased = dml_alloc(n, sizeof *slot->erased)))
            return DML_ERROR_MEMORY;
        if (!slot->pixels || !slot->labels || !slot->indices)
            return DML_ERROR_MEMORY;
        slot->batch = (struct dml_loaded){
            .height = loader->transform.crop,
            .width = loader->transform.crop,
            .pixels = slot->pixels,
            .labels = slot->labels,
            .indices = slot->indices,
            .erased = slot->erased,
        };
    }
    return DML_OK;
}

static enum dml_status index_classes(struct dml_loader *loader) {
    const struct dml_part *part = loader->part;
    if (!part->told)
        loader->own_told = dml_alloc(part->images, sizeof *loader->own_told);
    loader->told = part->told ? part->told : loader->own_told;
    loader->class_starts = dml_alloc(part->classes + 1, sizeof *loader->class_starts);
    if (!loader->told || !loader->class_starts)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < part->images; i++)
        loader->class_starts[part->labels[i] + 1]++;
    for (size_t c = 0; c < part->classes; c++)
        loader->class_starts[c + 1] += loader->class_starts[c];
    return DML_OK;
}

static enum dml_status start_workers(struct dml_loader *loader, int threads) {
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    loader->workers = dml_alloc((size_t)threads, sizeof *loader->workers);
    if (!loader->workers)
        return DML_ERROR_MEMORY;
    for (int i = 0; i < threads; i++) {
        struct worker *worker = &loader->workers[i];
        worker->loader = loader;
        enum dml_status status = dml_transformer_init(&worker->transformer);
        if (status)
            return status;
        dml_reader_limit(worker->transformer.reader, loader->part->max_pixels);
        int reason = pthread_create(&worker->thread, NULL, work, worker);
        if (reason) {
            dml_transformer_free(&worker->transformer);
            if (i > 0) /* fewer do as well */
                break;
            return dml_fail(DML_ERROR_MEMORY, "cannot start a loader thread: %s", strerror(reason));
        }
        loader->started++;
    }
    return DML_OK;
}

enum dml_status dml_loader_open(const struct dml_loader_options *options, struct dml_loader **out) {
    struct dml_loader *loader = dml_alloc(1, sizeof *loader);
    *out = NULL;
    if (!loader)
        return DML_ERROR_MEMORY;
    loader->part = options->part;
    loader->transform = options->transform;
    loader->batch_size = options->batch_size ? options->batch_size : 1;
    loader->stride = loader->batch_size;
    loader->seed = options->seed;
    loader->source = options->pixels;
    loader->strict = options->strict;
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->ready, NULL);
    enum dml_status status = make_slots(loader, options->memory);
    if (!status)
        status = index_classes(loader);
    if (!status)
        status = dml_cache_open(options, &loader->cache);
    if (!status)
        status = start_workers(loader, options->threads);
    if (status)
        dml_loader_close(loader);
    else
        *out = loader;
    return status;
}

void dml_loader_close(struct dml_loader *loader) {
    if (!loader)
        return;
    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->started; i++) {
        pthread_join(loader->workers[i].thread, NULL);
        dml_transformer_free(&loader->workers[i].transformer);
    }
    for (size_t i = 0; loader->slots && i < loader->slot_count; i++) {
        if (loader->slots[i].elsewhere)
            loader->source.release(loader->source.data, loader->slots[i].pixels);
        else
            free(loader->slots[i].pixels);
        free(loader->slots[i].labels);
        free(loader->slots[i].indices);
        free(loader->slots[i].erased);
    }
    dml_cache_close(loader->cache);
    pthread_cond_destroy(&loader->ready);
    pthread_cond_destroy(&loader->work);
    pthread_mutex_destroy(&loader->lock);
    free(loader->slots);
    free(loader->workers);
    free(loader->order);
    free((void *)loader->own_told);
    free(loader->class_starts);
    free(loader);
}

/* Ends the pass under way: begins nothing more, and waits for what was begun. */
static void end_pass(struct dml_loader *loader) {
    loader->count = 0;
    while (loader->busy > 0)
        pthread_cond_wait(&loader->ready, &loader->lock);
    for (size_t i = 0; i < loader->slot_count; i++)
        loader->slots[i].number = FREE;
    loader->next = 0;
    loader->handed = 0;
    loader->status = DML_OK;
}

void dml_loader_place(struct dml_loader *loader, size_t first, size_t stride) {
    loader->first = first;
    loader->stride = stride;
}

size_t dml_loader_batch_size(const struct dml_loader *loader) {
    return loader->batch_size;
}

enum dml_status dml_loader_start(struct dml_loader *loader, uint64_t epoch, const uint32_t *indices,
                                 size_t count) {
    size_t images = loader->part->images;
    if (!indices)
        count = images;
    for (size_t i = 0; indices && i < count; i++)
        if (indices[i] >= images)
            return dml_fail(DML_ERROR_INPUT, "loader: image %u of a part of %zu", indices[i],
                            images);
    pthread_mutex_lock(&loader->lock);
    end_pass(loader);
    void *order = loader->order;
    enum dml_status status =
        dml_grow(&order, &loader->order_capacity, count, sizeof *loader->order);
    loader->order = order;
    if (!status) {
        for (size_t i = 0; i < count; i++)
            loader->order[i] = indices ? indices[i] : (uint32_t)i;
        loader->epoch = epoch;
        loader->count = count;
        pthread_cond_broadcast(&loader->work);
    }
    pthread_mutex_unlock(&loader->lock);
    return status;
}

/* The slot of the next batch to be handed out; NULL after the last. */
static struct slot *slot_to_come(const struct dml_loader *loader) {
    if ((size_t)loader->handed * loader->batch_size >= loader->count)
        return NULL;
    return &loader->slots[(size_t)loader->handed % loader->slot_count];
}

static bool is_made(const struct dml_loader *loader, const struct slot *slot) {
    return slot->number == loader->handed && slot->done == slot->batch.n;
}

enum dml_status dml_loader_next(struct dml_loader *loader, const struct dml_loaded **out) {
    enum dml_status status = DML_OK;
    *out = NULL;
    pthread_mutex_lock(&loader->lock);
    struct slot *slot = slot_to_come(loader);
    if (slot) {
        while (!loader->status && !is_made(loader, slot))
            pthread_cond_wait(&loader->ready, &loader->lock);
        if (loader->status) {
            status = dml_fail(loader->status, "%s", loader->message);
        } else {
            loader->handed++;
            *out = &slot->batch;
        }
    }
    pthread_mutex_unlock(&loader->lock);
    return status;
}

void dml_loader_release(struct dml_loader *loader, const struct dml_loaded *batch) {
    if (!batch)
        return;
    pthread_mutex_lock(&loader->lock);
    for (size_t i = 0; i < loader->slot_count; i++)
        if (&loader->slots[i].batch == batch)
            loader->slots[i].number = FREE;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}

const struct dml_loaded *dml_loader_peek(struct dml_loader *loader) {
    pthread_mutex_lock(&loader->lock);
    const struct slot *slot = slot_to_come(loader);
    const struct dml_loaded *batch =
        slot && !loader->status && is_made(loader, slot) ? &slot->batch : NULL;
    pthread_mutex_unlock(&loader->lock);
    return batch;
}

static size_t count_of(const struct dml_loader *loader, const size_t *count) {
    pthread_mutex_t *lock = (pthread_mutex_t *)&loader->lock;
    pthread_mutex_lock(lock);
    size_t value = *count;
    pthread_mutex_unlock(lock);
    return value;
}

size_t dml_loader_replaced(const struct dml_loader *loader) {
    return count_of(loader, &loader->replaced);
}

size_t dml_loader_corrupt(const struct dml_loader *loader) {
    return count_of(loader, &loader->corrupt);
}
