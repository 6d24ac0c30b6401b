#ifndef DML_BASE_HTML_H
#define DML_BASE_HTML_H

#include <stddef.h>
#include <stdio.h>

/* Pages that hold everything they show: no script, nothing fetched. */

/* Everything up to the body's first element after the title, and everything after its last. `style`
 * is CSS. */
void dml_html_begin(FILE *out, const char *title, const char *style);
void dml_html_end(FILE *out);

/* Writes text with what HTML treats specially escaped; bytes that are not UTF-8 and control
 * characters become '?'. */
void dml_html_text(FILE *out, const char *text);

/* The kind of picture that a file is, by its first bytes, as dml_html_source takes it: "png",
 * "jpeg", "svg+xml", or NULL for anything else, which has no business on a page. */
const char *dml_html_picture(const unsigned char *data, size_t size);

/* Writes an attribute src="..." that holds the picture file itself, of type image/<kind>. */
void dml_html_source(FILE *out, const char *kind, const unsigned char *data, size_t size);

#endif
