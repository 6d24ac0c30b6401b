#ifndef DML_TRACKING_GNUPLOT_H
#define DML_TRACKING_GNUPLOT_H

#include "dml/error.h"

#include <stddef.h>
#include <sys/types.h>

/* The one place that starts gnuplot: without a shell, on scripts that lie in `folder`. Text in
 * scripts goes through dml_text_gnuplot. */

/* In the background, as dml_process_start; what it says goes to `log`. */
enum dml_status dml_gnuplot_start(const char *folder, char *const *scripts, size_t count,
                                  const char *log, pid_t *child);

/* Draws `script`, waiting at most `seconds`. If it fails, what gnuplot said stays in
 * <script>.log. */
enum dml_status dml_gnuplot_draw(const char *folder, char *script, double seconds);

#endif
