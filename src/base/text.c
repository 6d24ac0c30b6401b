#include "base/text.h"

#include "base/crc.h"
#include "base/memory.h"
#include "base/stream.h"
#include "base/utf8.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* U+2028..202E and U+2066..2069 end lines and turn the direction of what follows, so that a line
 * shows what it does not say. */
static bool misleads(const unsigned char *text, size_t left) {
    return left > 2 && text[0] == 0xe2 &&
           ((text[1] == 0x80 && text[2] >= 0xa8 && text[2] <= 0xae) ||
            (text[1] == 0x81 && text[2] >= 0xa6 && text[2] <= 0xa9));
}

size_t dml_text_plain(const char *text, size_t left) {
    unsigned char first = (unsigned char)text[0], second = left > 1 ? (unsigned char)text[1] : 0;
    if (first < 0x20 || first == 0x7f || (first == 0xc2 && second < 0xa0) ||
        misleads((const unsigned char *)text, left))
        return 0;
    return dml_utf8_length(text, left);
}

void dml_text_printable(const char *text, const char *keep, char *out, size_t size) {
    size_t at = 0, left = strlen(text);
    while (left) {
        size_t length = strchr(keep, *text) ? 1 : dml_text_plain(text, left);
        if (at + (length ? length : 4) >= size)
            break;
        if (length)
            memcpy(out + at, text, length);
        else
            snprintf(out + at, 5, "\\x%02x", (unsigned char)*text);
        at += length ? length : 4;
        text += length ? length : 1;
        left -= length ? length : 1;
    }
    if (size)
        out[at] = 0;
}

/* "\\xff", in lower case as it is written. */
static bool is_escape(const char *text) {
    static const char digits[] = "0123456789abcdef";
    return text[0] == '\\' && text[1] == 'x' && text[2] && strchr(digits, text[2]) && text[3] &&
           strchr(digits, text[3]);
}

char *dml_text_escape(const char *text) {
    char *out = dml_alloc(4 * strlen(text) + 1, 1), *to = out;
    for (size_t left = strlen(text), length; out && left; text += length, left -= length) {
        length = is_escape(text) ? 0 : dml_text_plain(text, left);
        if (length)
            memcpy(to, text, length);
        else
            snprintf(to, 5, "\\x%02x", (unsigned char)*text);
        to += length ? length : 4;
        length = length ? length : 1;
    }
    return out;
}

void dml_text_unescape(char *text) {
    char *to = text;
    for (; *text; to++) {
        bool escape = is_escape(text);
        char digits[3] = {escape ? text[2] : 0, escape ? text[3] : 0, 0};
        *to = escape ? (char)strtoul(digits, NULL, 16) : *text;
        text += escape ? 4 : 1;
    }
    *to = 0;
}

char *dml_text_line(const char *text) {
    size_t size = 4 * strlen(text) + 5;
    char *out = dml_alloc(size, 1);
    if (out)
        dml_text_printable(text, "", out, size);
    return out;
}

int dml_text_put_line(FILE *out, const char *text) {
    int columns = 0;
    for (size_t left = strlen(text), length; left; text += length, left -= length) {
        length = dml_text_plain(text, left);
        columns += length ? 1 : 4;
        if (length)
            fwrite(text, 1, length, out);
        else
            fprintf(out, "\\x%02x", (unsigned char)*text);
        length = length ? length : 1;
    }
    return columns;
}

/* Writes text with some characters replaced, and '?' for what is not a plain character. */
static void put(FILE *out, const char *text, const char *const (*replaced)[2]) {
    for (size_t left = strlen(text), length; left; text += length, left -= length) {
        const char *const(*rule)[2] = replaced;
        length = dml_text_plain(text, left);
        while ((*rule)[0] && (*rule)[0][0] != *text)
            rule++;
        if (length == 1 && (*rule)[0])
            fputs((*rule)[1], out);
        else if (length)
            fwrite(text, 1, length, out);
        else
            fputc('?', out);
        length = length ? length : 1;
    }
}

void dml_text_gnuplot(FILE *out, const char *text) {
    static const char *const rules[][2] = {{"'", "''"}, {NULL, NULL}};
    fputc('\'', out);
    put(out, text, rules);
    fputc('\'', out);
}

void dml_text_gnuplot_field(FILE *out, const char *text) {
    static const char *const rules[][2] = {{"\"", "'"}, {"\\", "/"}, {NULL, NULL}};
    fputc('"', out);
    put(out, text, rules);
    fputc('"', out);
}

void dml_text_latex(FILE *out, const char *text) {
    static const char *const rules[][2] = {{"\\", "\\textbackslash{}"},
                                           {"{", "\\{"},
                                           {"}", "\\}"},
                                           {"_", "\\_"},
                                           {"%", "\\%"},
                                           {"&", "\\&"},
                                           {"#", "\\#"},
                                           {"$", "\\$"},
                                           {"~", "\\textasciitilde{}"},
                                           {"^", "\\textasciicircum{}"},
                                           {"<", "\\textless{}"},
                                           {">", "\\textgreater{}"},
                                           {"|", "\\textbar{}"},
                                           {NULL, NULL}};
    put(out, text, rules);
}

bool dml_text_has_controls(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    return false;
}

/* A word that is not plain is put in apostrophes, and its own apostrophes outside them, as in
 * 'it'\''s'. */
char *dml_text_shell(char *const *words, int count) {
    char *text = NULL;
    struct dml_stream stream;
    if (dml_stream_open(&stream) != DML_OK)
        return NULL;
    for (int i = 0; i < count; i++) {
        const char *word = words[i];
        bool quoted = !*word || strpbrk(word, " \t\r\n\"'$*?()[]{}<>|&;\\`~#!");
        fputs(i ? " " : "", stream.file);
        fputs(quoted ? "'" : "", stream.file);
        for (; *word; word++)
            if (*word == '\'')
                fputs("'\\''", stream.file);
            else
                fputc(*word, stream.file);
        fputs(quoted ? "'" : "", stream.file);
    }
    dml_stream_close(&stream, &text);
    return text;
}

void dml_text_markdown(FILE *out, const char *text) {
    static const char *const rules[][2] = {{"|", "\\|"},   {"\\", "\\\\"}, {"`", "\\`"},
                                           {"*", "\\*"},   {"[", "\\["},   {"<", "&lt;"},
                                           {"&", "&amp;"}, {NULL, NULL}};
    put(out, text, rules);
}

static void put_field(FILE *out, const char *before, const char *text, bool escaped) {
    bool quoted = text[strcspn(text, ",\"\r\n")] != 0;
    if (quoted)
        fputc('"', out);
    fputs(before, out);
    for (size_t left = strlen(text), length; left; text += length, left -= length) {
        length = escaped ? dml_text_plain(text, left) : 1;
        if (*text == '"')
            fputc('"', out);
        if (length)
            fwrite(text, 1, length, out);
        else
            fprintf(out, "\\x%02x", (unsigned char)*text);
        length = length ? length : 1;
    }
    if (quoted)
        fputc('"', out);
}

void dml_text_csv(FILE *out, const char *text) {
    put_field(out, "", text, false);
}

void dml_text_csv_line(FILE *out, const char *text) {
    put_field(out, "", text, true);
}

void dml_text_csv_name(FILE *out, const char *text) {
    put_field(out, *text && strchr("=+-@", *text) ? "'" : "", text, true);
}

static bool in_file_names(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c >= 0x80 || strchr(".-_", c);
}

char *dml_text_file_name(const char *text) {
    char *name = dml_strdup(text);
    bool changed = !*text;
    for (char *at = name; at && *at; at++)
        if (!in_file_names((unsigned char)*at)) {
            *at = '_';
            changed = true;
        }
    if (!name || !changed)
        return name;
    char *numbered = dml_format("%s-%08x", name, (unsigned)dml_crc32c(0, text, strlen(text)));
    free(name);
    return numbered;
}
