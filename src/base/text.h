#ifndef DML_BASE_TEXT_H
#define DML_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Text from files, names and flags on its way to a reader that would take some characters for
 * instructions. Everything that writes such text goes through one of these (HTML: html.h). */

/* Bytes of the character at `text`, which has `left` > 0 bytes; 0 if that is not a character, or
 * one that controls a terminal (C0, DEL, C1). */
size_t dml_text_plain(const char *text, size_t left);

/* For a terminal or a line of a log: control characters and bytes that are not UTF-8 become \x1b
 * and the like, except those in `keep`. Writes at most `size` bytes, the 0 included. */
void dml_text_printable(const char *text, const char *keep, char *out, size_t size);

/* The same as a copy without newlines and tabs, for one line; free() it. NULL: no memory. */
char *dml_text_line(const char *text);

/* The same, written to a file; returns how many columns it takes there. */
int dml_text_put_line(FILE *out, const char *text);

/* The text as one line of valid UTF-8, from which dml_text_unescape restores the same bytes: bytes
 * that are not UTF-8 and control characters become \xff and the like, and the backslash of anything
 * that already looks like that becomes \x5c. Any other text stays as it is. free() it. NULL: no
 * memory. */
char *dml_text_escape(const char *text);
void dml_text_unescape(char *text); /* in place */

/* Whether text has characters that have no business in a name: control characters. */
bool dml_text_has_controls(const char *text);

/* Words as one text that a shell would read back; free() it. NULL: no memory. */
char *dml_text_shell(char *const *words, int count);

/* A gnuplot string constant in single quotes, in which nothing is substituted. */
void dml_text_gnuplot(FILE *out, const char *text);

/* A field of a gnuplot data file, in double quotes. */
void dml_text_gnuplot_field(FILE *out, const char *text);

void dml_text_latex(FILE *out, const char *text);

/* A cell of a Markdown table. */
void dml_text_markdown(FILE *out, const char *text);

/* A field of a CSV file (RFC 4180), quoted where it has to be: bytes as they are, for paths that a
 * program reads back; and as dml_text_put_line writes them, for names that are shown. */
void dml_text_csv(FILE *out, const char *text);
void dml_text_csv_line(FILE *out, const char *text);

/* The same for a name that nobody reads back: a spreadsheet would compute one that begins like a
 * formula, so it gets an apostrophe, which spreadsheets take for the mark of a text. */
void dml_text_csv_name(FILE *out, const char *text);

/* Part of a file's name: everything but letters, digits, '.', '-', '_' and characters beyond ASCII
 * becomes '_', and if anything did, a number that tells such names apart follows. free() it. NULL:
 * no memory. */
char *dml_text_file_name(const char *text);

#endif
