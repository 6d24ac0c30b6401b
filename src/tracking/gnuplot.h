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

/* Checks the pictures X.svg, X.png and X.pdf that the script X.gp may have drawn: where the disk
 * was full gnuplot ends well and leaves half of one. That is removed, and DML_ERROR_IO names it. */
enum dml_status dml_gnuplot_check(const char *folder, const char *script);

/* Draws `script`, waiting at most `seconds`, and checks its pictures. If gnuplot fails, what it
 * said stays in <script>.log. */
enum dml_status dml_gnuplot_draw(const char *folder, char *script, double seconds);

#endif
