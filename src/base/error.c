#include "dml/error.h"

#include "base/messages.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_SIZE = 2048 };

static _Thread_local char message[MESSAGE_SIZE];

const char *dml_error(void) {
    return message;
}

enum dml_status dml_fail(enum dml_status status, const char *format, ...) {
    char text[MESSAGE_SIZE], own[MESSAGE_SIZE]; /* the arguments may point into the last message */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, dml_message_format(format, own, sizeof own), arguments);
    va_end(arguments);
    dml_text_printable(text, "", message, sizeof message);
    return status;
}

enum dml_status dml_fail_within(enum dml_status status, const char *format, ...) {
    char prefix[MESSAGE_SIZE / 2], own[MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(prefix, sizeof prefix, dml_message_format(format, own, sizeof own), arguments);
    va_end(arguments);
    return dml_fail(status, "%s: %.1000s", prefix, message);
}
