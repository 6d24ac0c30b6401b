#include "cli/html.h"

#include "base/files.h"
#include "base/memory.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

void dml_html_text(FILE *out, const char *text) {
    char *copy = dml_strdup(text);
    if (!copy)
        return;
    dml_utf8_repair(copy);
    for (const char *at = copy; *at; at++) {
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
    free(copy);
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

void dml_html_picture(FILE *out, const char *path, const char *label) {
    struct dml_mapping file;
    bool found = path && dml_map_file(path, &file) == DML_OK;
    if (!found) {
        fputs("<div class=missing>", out);
        dml_html_text(out, label);
        fputs("</div>", out);
        return;
    }
    bool png = file.size > 4 && memcmp(file.data, "\x89PNG", 4) == 0;
    fprintf(out, "<img alt=\"");
    dml_html_text(out, label);
    fprintf(out, "\" src=\"data:image/%s;base64,", png ? "png" : "jpeg");
    write_base64(out, file.data, file.size);
    fputs("\">", out);
    dml_unmap_file(&file);
}

void dml_html_begin(FILE *out, const char *title) {
    fputs("<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<title>", out);
    dml_html_text(out, title);
    fputs("</title>\n<style>\n"
          "body { font: 14px sans-serif; margin: 2em; background: #fff; color: #222 }\n"
          ".row { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 2em }\n"
          "figure { margin: 0; width: 160px }\n"
          "figure.query { border-right: 3px solid #36c; padding-right: 12px }\n"
          "img, .missing { width: 160px; height: 160px; object-fit: contain; background: #eee }\n"
          ".missing { overflow: hidden; font-size: 11px }\n"
          "figcaption { font-size: 12px; overflow-wrap: anywhere }\n"
          "</style>\n</head>\n<body>\n<h1>",
          out);
    dml_html_text(out, title);
    fputs("</h1>\n", out);
}

void dml_html_end(FILE *out) {
    fputs("</body>\n</html>\n", out);
}
