#ifndef DML_NN_BACKBONES_OPTIONS_H
#define DML_NN_BACKBONES_OPTIONS_H

#include "dml/graph.h"

/* Options of backbones as they are written after a name: see struct dml_backbone. */

/* Reads "_frozen_normalize" into the table's struct; *out owns it, and stays NULL without a table.
 * DML_ERROR_USAGE: an option that the backbone called `name` does not have, or two values of one
 * option. Free with dml_params_free. */
enum dml_status dml_backbone_read_options(const char *name, const struct dml_param_table *table,
                                          const char *text, struct dml_params **out);

/* Whether the table has the option of `length` characters. */
bool dml_backbone_has_option(const struct dml_param_table *table, const char *option,
                             size_t length);

/* The options of a table as they are written after a backbone's name: "_frozen, _avg, ...", or
 * separated by blanks, with nothing before them. */
void dml_backbone_options_text(const struct dml_param_table *table, const char *before,
                               const char *separator, char *out, size_t size);

#endif
