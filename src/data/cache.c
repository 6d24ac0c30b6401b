#include "data/cache.h"

#include "base/files.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/progress.h"
#include "data/pipeline.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A cache file: this header, pixels, and at `table` an entry per image. Little-endian, like the
 * machines that it stays on. */
struct header {
    char magic[8];
    uint64_t key; /* of files and transform */
    uint64_t images, table;
};
struct entry {
    uint64_t offset;        /* of (height, width, 3) */
    uint32_t width, height; /* 0: could not be read, or not without flaws, when it was made */
};
static const char MAGIC[8] = "DMLIMG1";

struct dml_cache {
    size_t images;
    /* in memory */
    _Atomic(struct dml_pixels *) *kept; /* (images) */
    atomic_size_t used, checked;        /* bytes kept, now and when memory was last checked */
    size_t limit;
    atomic_bool full;
    /* in a file */
    struct dml_mapping mapping;
    const struct entry *table;
};

enum { CHECK_EVERY = 64 << 20, MOST_THREADS = 256 };

static bool is_evaluation(const struct dml_loader_options *options) {
    return options->transform.kind == DML_TRANSFORM_EVALUATION;
}

static uint64_t read_number(const char *path, const char *format, uint64_t otherwise) {
    char line[256];
    uint64_t value = otherwise;
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, format, &value) == 1)
            break;
    if (file)
        fclose(file);
    return value;
}

/* Whether three quarters of the memory, or of what a container may use, are in use. */
static bool memory_is_short(void) {
    uint64_t total = read_number("/proc/meminfo", "MemTotal: %" SCNu64, 0);
    uint64_t left = read_number("/proc/meminfo", "MemAvailable: %" SCNu64, 0);
    uint64_t most = read_number("/sys/fs/cgroup/memory.max", "%" SCNu64, 0);
    uint64_t used = read_number("/sys/fs/cgroup/memory.current", "%" SCNu64, 0);
    return left < total / 4 || (most > 0 && used > most / 4 * 3);
}

/* --- in memory --- */

bool dml_cache_wants(const struct dml_cache *cache, size_t image) {
    return cache && cache->kept && !atomic_load(&cache->full) && !atomic_load(&cache->kept[image]);
}

static void free_pixels(struct dml_pixels *pixels) {
    if (pixels)
        dml_pixels_free(pixels);
    free(pixels);
}

static void stop_growing(struct dml_cache *cache) {
    if (!atomic_exchange(&cache->full, true))
        dml_warn(
            "--cache_images memory: full at %zu MB; the other images are decoded in every epoch",
            atomic_load(&cache->used) >> 20);
}

/* Counts the bytes; false when they do not fit. */
static bool make_room(struct dml_cache *cache, size_t bytes) {
    size_t used = atomic_fetch_add(&cache->used, bytes) + bytes;
    size_t checked = atomic_load(&cache->checked);
    bool fits = cache->limit == 0 || used <= cache->limit;
    if (fits && cache->limit == 0 && used >= checked + CHECK_EVERY) {
        atomic_store(&cache->checked, used);
        fits = !memory_is_short();
    }
    if (!fits) {
        atomic_fetch_sub(&cache->used, bytes);
        stop_growing(cache);
    }
    return fits;
}

void dml_cache_offer(struct dml_cache *cache, size_t image, const uint8_t *pixels, int width,
                     int height) {
    size_t bytes = (size_t)width * (size_t)height * 3;
    if (!dml_cache_wants(cache, image) || !make_room(cache, bytes))
        return;
    struct dml_pixels *copy = dml_alloc(1, sizeof *copy), *nothing = NULL;
    if (!copy || dml_pixels_reserve(copy, (struct dml_rect){0, 0, width, height}) != DML_OK) {
        stop_growing(cache);
        free_pixels(copy);
        return;
    }
    memcpy(copy->data, pixels, bytes);
    if (!atomic_compare_exchange_strong(&cache->kept[image], &nothing, copy)) {
        atomic_fetch_sub(&cache->used, bytes); /* another thread was faster */
        free_pixels(copy);
    }
}

bool dml_cache_find(const struct dml_cache *cache, size_t image, struct dml_pixels *out) {
    if (cache && cache->kept) {
        const struct dml_pixels *kept = atomic_load(&cache->kept[image]);
        if (kept)
            *out = *kept;
        return kept != NULL;
    }
    if (!cache || cache->table[image].width == 0)
        return false;
    const struct entry *entry = &cache->table[image];
    *out = (struct dml_pixels){
        .rect = {0, 0, (int)entry->width, (int)entry->height},
        .stride = (size_t)entry->width * 3,
        .data = (uint8_t *)cache->mapping.data + entry->offset,
    };
    return true;
}

/* --- in a file --- */

static uint64_t hash(uint64_t state, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        state = (state ^ bytes[i]) * 0x100000001B3; /* FNV-1a */
    return state;
}

/* Names, sizes and times of the files, boxes in them, and what the transform makes of them. */
static uint64_t key_of(const struct dml_loader_options *options) {
    const struct dml_transform *transform = &options->transform;
    int64_t sizes[2] = {transform->crop, transform->resize};
    uint64_t key = 0xCBF29CE484222325;
    if (is_evaluation(options))
        key = hash(key, sizes, sizeof sizes);
    if (is_evaluation(options) && transform->list) {
        const char *text = dml_pipeline_text(transform->list);
        key = hash(key, text, strlen(text));
    }
    for (size_t i = 0; i < options->part->images; i++) {
        const char *path = options->part->paths[i];
        struct stat info;
        int64_t facts[3] = {-1, -1, -1};
        if (stat(path, &info) == 0) {
            facts[0] = info.st_size;
            facts[1] = info.st_mtim.tv_sec;
            facts[2] = info.st_mtim.tv_nsec;
        }
        key = hash(hash(key, path, strlen(path) + 1), facts, sizeof facts);
        if (options->part->boxes)
            key = hash(key, &options->part->boxes[i], sizeof options->part->boxes[i]);
    }
    return key;
}

/* Whether every entry lies in the file. */
static bool is_sound(const struct dml_mapping *mapping, const struct header *header,
                     const struct dml_loader_options *options) {
    uint64_t size = mapping->size, images = options->part->images;
    uint32_t crop = (uint32_t)options->transform.crop;
    if (header->images != images || header->table % sizeof(uint64_t) != 0 || header->table > size ||
        (size - header->table) / sizeof(struct entry) < images)
        return false;
    const struct entry *table = (const struct entry *)(mapping->data + header->table);
    for (uint64_t i = 0; i < images; i++) {
        uint64_t width = table[i].width, height = table[i].height;
        if (width == 0)
            continue;
        if (height == 0 || width * height > DML_IMAGE_MOST_PIXELS || table[i].offset > size ||
            width * height * 3 + DML_PIXELS_SLACK > size - table[i].offset)
            return false;
        if (is_evaluation(options) && (width != crop || height != crop))
            return false;
    }
    return true;
}

/* Maps an existing file; false when it is not there or was made for something else. */
static bool use_file(struct dml_cache *cache, const char *path, uint64_t key,
                     const struct dml_loader_options *options) {
    if (!dml_path_exists(path) || dml_map_file(path, &cache->mapping) != DML_OK)
        return false;
    const struct header *header = (const struct header *)cache->mapping.data;
    if (cache->mapping.size >= sizeof *header && memcmp(header->magic, MAGIC, sizeof MAGIC) == 0 &&
        header->key == key && is_sound(&cache->mapping, header, options)) {
        cache->table = (const struct entry *)(cache->mapping.data + header->table);
        return true;
    }
    dml_unmap_file(&cache->mapping);
    return false;
}

/* A file being made by several threads. */
struct maker {
    const struct dml_loader_options *options;
    struct entry *table;
    int file;
    const char *path;
    atomic_size_t next, end; /* image, and byte of the file */
    atomic_bool stop;
    pthread_mutex_t lock; /* for what follows */
    struct dml_progress progress;
    size_t done;
    enum dml_status status;
    char message[1024];
};

static void give_up(struct maker *maker, enum dml_status status) {
    pthread_mutex_lock(&maker->lock);
    if (!maker->status) {
        maker->status = status;
        snprintf(maker->message, sizeof maker->message, "%s", dml_error());
    }
    pthread_mutex_unlock(&maker->lock);
    atomic_store(&maker->stop, true);
}

static enum dml_status write_at(struct maker *maker, const void *data, size_t size, size_t at) {
    for (const char *bytes = data; size > 0;) {
        ssize_t put = pwrite(maker->file, bytes, size, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", maker->path,
                            strerror(put < 0 ? errno : ENOSPC));
        bytes += put;
        size -= (size_t)put;
        at += (size_t)put;
    }
    return DML_OK;
}

/* Decodes and writes one image; one that cannot be read gets an empty entry, as does one whose data
 * is corrupt: loaders find that out and report it. */
static enum dml_status make_entry(struct maker *maker, struct dml_transformer *transformer,
                                  uint8_t *transformed, size_t image) {
    const struct dml_loader_options *options = maker->options;
    const char *path = options->part->paths[image];
    const struct dml_rect *box = dml_part_box(options->part, image);
    const uint8_t *pixels = transformed;
    int width = options->transform.crop, height = width;
    enum dml_status status;
    if (is_evaluation(options)) {
        status = dml_transform_file(transformer, &options->transform, path, box, NULL, transformed);
    } else {
        status = dml_reader_open_box(transformer->reader, path, box, &width, &height);
        if (!status)
            status = dml_reader_decode(transformer->reader, (struct dml_rect){0, 0, width, height},
                                       &transformer->pixels);
        pixels = transformer->pixels.data;
    }
    if (status)
        return status == DML_ERROR_MEMORY ? status : DML_OK;
    if (dml_reader_flaw(transformer->reader))
        return DML_OK;
    size_t bytes = (size_t)width * (size_t)height * 3;
    size_t at = atomic_fetch_add(&maker->end, bytes);
    maker->table[image] = (struct entry){at, (uint32_t)width, (uint32_t)height};
    return write_at(maker, pixels, bytes, at);
}

static void count_one(struct maker *maker) {
    const volatile sig_atomic_t *interrupted = maker->options->interrupted;
    if (interrupted && *interrupted)
        give_up(maker,
                dml_fail(DML_ERROR_INTERRUPTED, "%s: interrupted while it was made", maker->path));
    pthread_mutex_lock(&maker->lock);
    dml_progress_update(&maker->progress, ++maker->done);
    pthread_mutex_unlock(&maker->lock);
}

static void *make_entries(void *data) {
    struct maker *maker = data;
    struct dml_transformer transformer;
    size_t crop = (size_t)maker->options->transform.crop;
    uint8_t *transformed = dml_alloc_aligned(crop * crop, 3);
    enum dml_status status = transformed ? dml_transformer_init(&transformer) : DML_ERROR_MEMORY;
    if (status) {
        give_up(maker, status);
        free(transformed);
        return NULL;
    }
    dml_reader_limit(transformer.reader, maker->options->part->max_pixels);
    while (!atomic_load(&maker->stop)) {
        size_t image = atomic_fetch_add(&maker->next, 1);
        if (image >= maker->options->part->images)
            break;
        status = make_entry(maker, &transformer, transformed, image);
        if (status)
            give_up(maker, status);
        count_one(maker);
    }
    dml_transformer_free(&transformer);
    free(transformed);
    return NULL;
}

static void run_makers(struct maker *maker) {
    pthread_t threads[MOST_THREADS];
    int started = 0;
    while (started < maker->options->threads - 1 && started < MOST_THREADS &&
           pthread_create(&threads[started], NULL, make_entries, maker) == 0)
        started++;
    make_entries(maker);
    while (started > 0)
        pthread_join(threads[--started], NULL);
}

/* For transformed images the size is known: a disk that is too small is reported before any is
 * decoded. */
static enum dml_status claim_space(struct maker *maker) {
    size_t images = maker->options->part->images, crop = (size_t)maker->options->transform.crop;
    if (!is_evaluation(maker->options))
        return DML_OK;
    size_t bytes = sizeof(struct header) + images * (crop * crop * 3 + sizeof(struct entry));
    int reason = posix_fallocate(maker->file, 0, (off_t)bytes);
    if (reason == ENOSPC || reason == EFBIG)
        return dml_fail(DML_ERROR_IO, "%s: cannot be written: %s (%zu MB are needed)", maker->path,
                        strerror(reason), bytes >> 20);
    return DML_OK;
}

static enum dml_status finish(struct maker *maker, uint64_t key) {
    static const char slack[DML_PIXELS_SLACK];
    size_t images = maker->options->part->images;
    size_t at = (atomic_load(&maker->end) + 7) / 8 * 8;
    struct header header = {.key = key, .images = images, .table = at};
    memcpy(header.magic, MAGIC, sizeof MAGIC);
    enum dml_status status = write_at(maker, maker->table, images * sizeof *maker->table, at);
    at += images * sizeof *maker->table;
    if (!status)
        status = write_at(maker, slack, sizeof slack, at);
    if (!status)
        status = write_at(maker, &header, sizeof header, 0);
    if (!status && ftruncate(maker->file, (off_t)(at + sizeof slack)) != 0)
        status = dml_fail(DML_ERROR_IO, "%s: %s", maker->path, strerror(errno));
    return status;
}

static enum dml_status make_file(const char *path, uint64_t key,
                                 const struct dml_loader_options *options) {
    struct dml_output output;
    enum dml_status status = dml_output_open(&output, path);
    if (status)
        return status;
    struct maker maker = {.options = options, .file = fileno(output.file), .path = path};
    char title[64];
    atomic_init(&maker.end, sizeof(struct header));
    pthread_mutex_init(&maker.lock, NULL);
    maker.table = dml_alloc(options->part->images, sizeof *maker.table);
    status = maker.table ? claim_space(&maker) : DML_ERROR_MEMORY;
    if (!status) {
        snprintf(title, sizeof title, "caching %s images", options->part->name);
        dml_progress_start(&maker.progress, title, "images", options->part->images);
        run_makers(&maker);
        dml_progress_end(&maker.progress);
        status = maker.status ? dml_fail(maker.status, "%s", maker.message) : finish(&maker, key);
    }
    if (!status)
        status = dml_output_commit(&output);
    else
        dml_output_discard(&output);
    pthread_mutex_destroy(&maker.lock);
    free(maker.table);
    return status;
}

/* *unwritable: nothing can be written there, and the path is to blame. */
static enum dml_status open_file(struct dml_cache *cache, const struct dml_loader_options *options,
                                 bool *unwritable) {
    uint64_t key = key_of(options);
    char *path = dml_format("%s.%s-%s", options->cache, options->part->name,
                            is_evaluation(options) ? "eval" : "train");
    if (!path)
        return DML_ERROR_MEMORY;
    enum dml_status status = DML_OK;
    if (!use_file(cache, path, key, options)) {
        status = dml_output_check(path);
        *unwritable = status;
        if (!status)
            status = make_file(path, key, options);
        if (!status && !use_file(cache, path, key, options))
            status = dml_fail(DML_ERROR_IO, "%s: changed while it was made", path);
    }
    free(path);
    return status;
}

enum dml_status dml_cache_open(const struct dml_loader_options *options, struct dml_cache **out) {
    *out = NULL;
    if (!options->cache || !*options->cache || strcmp(options->cache, "none") == 0 ||
        options->part->images == 0)
        return DML_OK;
    struct dml_cache *cache = dml_alloc(1, sizeof *cache);
    if (!cache)
        return DML_ERROR_MEMORY;
    enum dml_status status = DML_OK;
    bool unwritable = false;
    cache->images = options->part->images;
    cache->limit = options->cache_limit;
    if (strcmp(options->cache, "memory") == 0) {
        cache->kept = dml_alloc(cache->images, sizeof *cache->kept);
        status = cache->kept ? DML_OK : DML_ERROR_MEMORY;
    } else {
        status = open_file(cache, options, &unwritable);
    }
    if (!status) {
        *out = cache;
        return DML_OK;
    }
    dml_cache_close(cache);
    if (unwritable)
        return dml_fail_within(status, "--cache_images");
    if (status == DML_ERROR_INTERRUPTED)
        return status;
    dml_warn("--cache_images: %s; continuing without it", dml_error());
    return DML_OK;
}

void dml_cache_close(struct dml_cache *cache) {
    if (!cache)
        return;
    for (size_t i = 0; cache->kept && i < cache->images; i++)
        free_pixels(atomic_load(&cache->kept[i]));
    free((void *)cache->kept);
    dml_unmap_file(&cache->mapping);
    free(cache);
}
