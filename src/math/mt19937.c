#include "math/mt19937.h"

enum { WORDS = 624, APART = 397 };

struct dml_mt19937 dml_mt19937_make(uint32_t seed) {
    struct dml_mt19937 made = {.words = {seed}, .next = WORDS};
    for (uint32_t i = 1; i < WORDS; i++)
        made.words[i] = 1812433253u * (made.words[i - 1] ^ made.words[i - 1] >> 30) + i;
    return made;
}

static void twist(uint32_t *words) {
    for (int i = 0; i < WORDS; i++) {
        uint32_t mixed = (words[i] & 0x80000000u) | (words[(i + 1) % WORDS] & 0x7fffffffu);
        words[i] = words[(i + APART) % WORDS] ^ mixed >> 1 ^ (mixed & 1 ? 0x9908b0dfu : 0);
    }
}

uint32_t dml_mt19937_draw(struct dml_mt19937 *generator) {
    if (generator->next == WORDS) {
        twist(generator->words);
        generator->next = 0;
    }
    uint32_t y = generator->words[generator->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}
