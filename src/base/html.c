#include "base/html.h"

#include "base/text.h"

#include <stdbool.h>
#include <string.h>

void dml_html_begin(FILE *out, const char *title, const char *style) {
    fputs("<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<title>", out);
    dml_html_text(out, title);
    fprintf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<h1>", style);
    dml_html_text(out, title);
    fputs("</h1>\n", out);
}

void dml_html_end(FILE *out) {
    fputs("</body>\n</html>\n", out);
}

void dml_html_text(FILE *out, const char *text) {
    size_t left = strlen(text), length;
    for (const char *at = text; left; at += length, left -= length) {
        length = dml_text_plain(at, left);
        if (length != 1) {
            fwrite(length ? at : "?", 1, length ? length : 1, out);
            length = length ? length : 1;
            continue;
        }
        switch (*at) {
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '&':
            fputs("&amp;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\'':
            fputs("&#39;", out);
            break;
        default:
            fputc(*at, out);
        }
    }
}

static bool begins_with(const unsigned char *data, size_t size, const char *bytes, size_t count) {
    return size > count && memcmp(data, bytes, count) == 0;
}

const char *dml_html_picture(const unsigned char *data, size_t size) {
    static const char xml[] = "<?xml ", svg[] = "<svg ";
    if (begins_with(data, size, "\x89PNG\r\n\x1A\n", 8))
        return "png";
    if (begins_with(data, size, "\xFF\xD8\xFF", 3))
        return "jpeg";
    if (begins_with(data, size, svg, sizeof svg - 1))
        return "svg+xml";
    /* a prologue, as gnuplot writes it, and then the picture; within the first kilobyte */
    size_t left = size < 1024 ? size : 1024;
    for (size_t at = 0; begins_with(data, size, xml, sizeof xml - 1) && at < left; at++)
        if (begins_with(data + at, size - at, svg, sizeof svg - 1))
            return "svg+xml";
    return NULL;
}

static void write_base64(FILE *out, const unsigned char *data, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        unsigned bits = (unsigned)data[i] << 16;
        bits |= left > 1 ? (unsigned)data[i + 1] << 8 : 0;
        bits |= left > 2 ? (unsigned)data[i + 2] : 0;
        fputc(digits[bits >> 18], out);
        fputc(digits[bits >> 12 & 63], out);
        fputc(left > 1 ? digits[bits >> 6 & 63] : '=', out);
        fputc(left > 2 ? digits[bits & 63] : '=', out);
    }
}

void dml_html_source(FILE *out, const char *kind, const unsigned char *data, size_t size) {
    fprintf(out, "src=\"data:image/%s;base64,", kind);
    write_base64(out, data, size);
    fputc('"', out);
}
