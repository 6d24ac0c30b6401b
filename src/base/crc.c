#include "base/crc.h"

enum { POLYNOMIAL = (int)0x82F63B78u }; /* reflected */

/* Four bits at a time: what is checked is small, and a table of 16 is quickly made. */
uint32_t dml_crc32c(uint32_t crc, const void *data, size_t size) {
    const unsigned char *bytes = data;
    uint32_t table[16];
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 4; bit++)
            value = value & 1 ? value >> 1 ^ (uint32_t)POLYNOMIAL : value >> 1;
        table[i] = value;
    }
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}
