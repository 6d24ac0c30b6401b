#ifndef DML_BASE_UTF8_H
#define DML_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Length in bytes of the UTF-8 character at `text`, which has `left` > 0 bytes; 0 if that is not
 * one (RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF). */
size_t dml_utf8_length(const char *text, size_t left);

bool dml_utf8_valid(const char *text, size_t length);

/* Replaces each byte that does not belong to a character with '?'. */
void dml_utf8_repair(char *text);

#endif
