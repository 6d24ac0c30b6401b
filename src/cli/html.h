#ifndef DML_CLI_HTML_H
#define DML_CLI_HTML_H

#include "dml/error.h"

#include <stdio.h>

/* Writes text with what HTML treats specially escaped; bytes that are not UTF-8 become '?'. */
void dml_html_text(FILE *out, const char *text);

/* Writes an <img> that holds the JPEG or PNG file itself, so that the page needs no other file, or
 * a grey box where it cannot be read. `label` describes it. */
void dml_html_picture(FILE *out, const char *path, const char *label);

/* Everything up to the body's first element, and from behind its last. */
void dml_html_begin(FILE *out, const char *title);
void dml_html_end(FILE *out);

#endif
