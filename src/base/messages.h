#ifndef DML_BASE_MESSAGES_H
#define DML_BASE_MESSAGES_H

#include "dml/messages.h"

#include <stdarg.h>
#include <stddef.h>

/* Tell the listener (dml/messages.h) one or more lines, split at newlines, of which the last may be
 * omitted; control characters are shown as \x1b and the like. In their formats, and those of
 * dml_fail, a parameter is written as its flag, "--bs %zu": the program shows it like that, the
 * library as the parameter's name, "bs 112". */
void dml_inform(const char *format, ...) __attribute__((format(printf, 1, 2)));
void dml_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The text of a message as the two above say it: its lines are those of the format, whatever names
 * hold. */
void dml_message_text(char *out, size_t size, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

/* Tells the listener a text as it is. Changes the text. */
void dml_tell_lines(enum dml_message_kind kind, char *text);

void dml_report_progress(const struct dml_progress_report *report);

/* Whether the listener takes bold text. */
bool dml_messages_bold(void);

/* Messages name parameters as flags from here on (or no longer). For the command line. */
void dml_messages_name_flags(bool on);

/* "--" or "": what comes before a parameter's name in a message. */
const char *dml_flag_dashes(void);

/* `format` with its flags as messages show them. Returns `format` or `out`. */
const char *dml_message_format(const char *format, char *out, size_t size);

#endif
