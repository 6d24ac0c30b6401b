#ifndef DML_DATA_PIPELINE_H
#define DML_DATA_PIPELINE_H

#include "data/dataset.h"
#include "data/transform.h"

/* Lists of operations, as --transforms and --eval_transforms give them:
 *     random_resized_crop(scale=0.2..1, interpolation=bicubic) flip random_erasing
 * Names separated by blanks; in parentheses parameters, the first one's name may be left out. */

struct dml_pipeline;

/* Reads a list for the parameter `flag` ("transforms"). `crop` is the side of the network's input,
 * `resize` what the shorter side is scaled to where nothing else is said. DML_ERROR_USAGE names
 * flag, position and operation: one that is unknown, a parameter that is unknown or out of bounds,
 * an order that makes no sense, a size that is not the network's, something random for evaluation.
 */
enum dml_status dml_pipeline_parse(const char *flag, const char *text, bool training, int crop,
                                   int resize, struct dml_pipeline **out);
void dml_pipeline_free(struct dml_pipeline *pipeline);

/* The text it was read from; belongs to it. */
const char *dml_pipeline_text(const struct dml_pipeline *pipeline);

/* Whether views may have something to erase. */
bool dml_pipeline_erases(const struct dml_pipeline *pipeline);

/* dml_transform_draw and dml_view_render of a list. */
struct dml_view dml_pipeline_draw(const struct dml_pipeline *pipeline, int width, int height,
                                  struct dml_rng *rng);
enum dml_status dml_pipeline_render(const struct dml_view *view, struct dml_resizer *resizer,
                                    const struct dml_pixels *pixels, uint8_t *out);

/* The transforms of a run, from its flags. `native`: the backbone's crop. Caller closes. */
struct dml_transforms {
    struct dml_transform training, evaluation;
    struct dml_pipeline *lists[2];
};
enum dml_status dml_transforms_open(const struct dml_dataset_options *options, int native,
                                    struct dml_transforms *out);
void dml_transforms_close(struct dml_transforms *transforms);

#endif
