#include "base/messages.h"

#include "base/text.h"

#include <ctype.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_SIZE = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct dml_listener listener; /* all zero: nobody listens */
static atomic_bool name_flags;

void dml_listen(const struct dml_listener *wanted) {
    pthread_mutex_lock(&lock);
    listener = wanted ? *wanted : (struct dml_listener){0};
    pthread_mutex_unlock(&lock);
}

bool dml_messages_bold(void) {
    pthread_mutex_lock(&lock);
    bool bold = listener.bold;
    pthread_mutex_unlock(&lock);
    return bold;
}

void dml_messages_name_flags(bool on) {
    name_flags = on;
}

const char *dml_flag_dashes(void) {
    return name_flags ? "--" : "";
}

const char *dml_message_format(const char *format, char *out, size_t size) {
    size_t used = 0;
    if (name_flags || !strstr(format, "--"))
        return format;
    for (const char *at = format; *at && used + 1 < size; at++) {
        bool begins = at == format || strchr(" ('\"`\n", at[-1]);
        if (begins && at[0] == '-' && at[1] == '-' &&
            (islower((unsigned char)at[2]) || at[2] == '%'))
            at += 2;
        out[used++] = *at;
    }
    out[used] = 0;
    return out;
}

void dml_tell_lines(enum dml_message_kind kind, char *text) {
    pthread_mutex_lock(&lock);
    char *line = text;
    while (listener.message && line) {
        char *end = strchr(line, '\n');
        if (end)
            *end = 0;
        listener.message(listener.data, kind, line);
        line = end && end[1] ? end + 1 : NULL;
    }
    pthread_mutex_unlock(&lock);
}

/* `text` with other characters in the place of some; returns of how many. */
static size_t replace(char *text, char old, char new) {
    size_t count = 0;
    for (; (text = strchr(text, old)); count++)
        *text++ = new;
    return count;
}

static size_t count_of(const char *text, char c) {
    size_t count = 0;
    for (; (text = strchr(text, c)); text++)
        count++;
    return count;
}

void dml_message_text(char *out, size_t size, const char *format, va_list arguments) {
    static const char mark[] = "\x1e"; /* a newline of the format's */
    char lines[TEXT_SIZE], own[TEXT_SIZE], text[4 * TEXT_SIZE];
    snprintf(lines, sizeof lines, "%s", dml_message_format(format, own, sizeof own));
    size_t breaks = replace(lines, '\n', *mark);
    vsnprintf(text, sizeof text, lines, arguments);
    /* an argument with such a character begins no line */
    dml_text_printable(text, count_of(text, *mark) == breaks ? mark : "", out, size);
    replace(out, *mark, '\n');
}

static void tell(enum dml_message_kind kind, const char *format, va_list arguments) {
    char text[TEXT_SIZE];
    dml_message_text(text, sizeof text, format, arguments);
    dml_tell_lines(kind, text);
}

void dml_inform(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    tell(DML_MESSAGE_INFO, format, arguments);
    va_end(arguments);
}

void dml_warn(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    tell(DML_MESSAGE_WARNING, format, arguments);
    va_end(arguments);
}

void dml_report_progress(const struct dml_progress_report *report) {
    pthread_mutex_lock(&lock);
    if (listener.progress)
        listener.progress(listener.data, report);
    pthread_mutex_unlock(&lock);
}
