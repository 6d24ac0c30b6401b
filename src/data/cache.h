#ifndef DML_DATA_CACHE_H
#define DML_DATA_CACHE_H

#include "data/loader.h"

/* Decoded images of a part, in memory or in a file: for an evaluation transform its result, for a
 * training transform the whole image, since every epoch crops it differently. */
struct dml_cache;

/* `options->cache` says which; *out is NULL for none, and where there is no space for a file (which
 * is a warning). DML_ERROR_IO: the file's place cannot be written at all. The part's and the
 * transform's names are appended to a file's name. An existing one is used when it was made from
 * the same files (names, sizes, times) for the same transform, and is made again otherwise, on
 * options->threads threads; it appears whole or not at all. */
enum dml_status dml_cache_open(const struct dml_loader_options *options, struct dml_cache **out);
void dml_cache_close(struct dml_cache *cache);

/* The pixels of an image, whole or transformed; false when it is not there. They stay until the
 * cache is closed. */
bool dml_cache_find(const struct dml_cache *cache, size_t image, struct dml_pixels *out);

/* Whether the cache would keep this image; a cache in memory fills as images are decoded. */
bool dml_cache_wants(const struct dml_cache *cache, size_t image);
/* Keeps a copy of (height, width, 3) pixels, or does not. Several threads may call it. */
void dml_cache_offer(struct dml_cache *cache, size_t image, const uint8_t *pixels, int width,
                     int height);

#endif
