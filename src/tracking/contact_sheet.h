#ifndef DML_TRACKING_CONTACT_SHEET_H
#define DML_TRACKING_CONTACT_SHEET_H

#include "data/dataset.h"

/* sample_recoveries.png: a row per query, with the query on the left and its nearest images of the
 * gallery after it, nearest first, framed green where the class is the query's and red where it
 * is not. */
enum { DML_SHEET_QUERIES = 10, DML_SHEET_NEAREST = 3 };

/* `embeddings` (part->images, dim) are those of the part's images, in order. Distances are
 * Euclidean; a query never finds itself. The same queries are shown for the same seed, so that
 * sheets of different epochs can be compared. An image that cannot be read is a grey tile.
 * DML_ERROR_INPUT: fewer than two images. DML_ERROR_IO: `path` cannot be written. */
enum dml_status dml_contact_sheet_write(const char *path, const struct dml_part *part,
                                        const float *embeddings, size_t dim, uint64_t seed);

#endif
