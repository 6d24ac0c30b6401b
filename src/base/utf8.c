#include "base/utf8.h"

#include <string.h>

size_t dml_utf8_length(const char *text, size_t left) {
    const unsigned char *bytes = (const unsigned char *)text;
    unsigned first = bytes[0];
    size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (length == 0 || first > 0xf4 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (first == 0xe0 && bytes[1] < 0xa0) || (first == 0xf0 && bytes[1] < 0x90);
    bool surrogate = first == 0xed && bytes[1] >= 0xa0;
    bool beyond = first == 0xf4 && bytes[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : length;
}

bool dml_utf8_valid(const char *text, size_t length) {
    for (size_t at = 0, step; at < length; at += step)
        if (!(step = dml_utf8_length(text + at, length - at)))
            return false;
    return true;
}

void dml_utf8_repair(char *text) {
    size_t length = strlen(text);
    for (size_t at = 0, step; at < length; at += step)
        if (!(step = dml_utf8_length(text + at, length - at))) {
            text[at] = '?';
            step = 1;
        }
}
