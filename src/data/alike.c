#include "data/alike.h"

#include "base/memory.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The letter that a character of U+00C0..U+017F is without its accent; a dot: another letter. */
static const char bare[] = "aaaaaa.ceeeeiiii.nooooo..uuuuy..aaaaaa.ceeeeiiii.nooooo..uuuuy.y"
                           "aaaaaaccccccccdd..eeeeeeeeeegggggggghh..iiiiiiiii...jjkk.llllll."
                           "...nnnnnn...oooooo..rrrrrrsssssssstttt..uuuuuuuuuuuuwwyyyzzzzzz.";

/* What is left of a name without blanks around it, accents, leading zeros of a number and the case
 * of letters, as large as the name at most. Accents may be part of their letter or follow it. */
static void fold(const char *name, char *out) {
    const unsigned char *at = (const unsigned char *)name;
    const char *begin = out;
    at += strspn(name, " \t");
    while (*at == '0' && isdigit(at[1]))
        at++;
    for (; *at; at++) {
        unsigned code = (at[0] & 0x1fu) << 6 | (at[1] & 0x3fu);
        bool pair = (at[0] & 0xe0) == 0xc0 && (at[1] & 0xc0) == 0x80;
        bool letter = pair && code >= 0xc0 && code < 0x180 && bare[code - 0xc0] != '.';
        if (letter)
            *out++ = bare[code - 0xc0];
        else if (!pair || code < 0x300 || code > 0x36f)
            *out++ = (char)(pair ? *at : tolower(*at));
        if (letter || (pair && code >= 0x300 && code <= 0x36f))
            at++;
    }
    while (out > begin && strchr(" \t", out[-1]))
        out--;
    *out = 0;
}

struct folded {
    const char *name;
    char *text; /* owned */
};

static int by_text(const void *a, const void *b) {
    return strcmp(((const struct folded *)a)->text, ((const struct folded *)b)->text);
}

enum dml_status dml_classes_alike(const struct dml_part *part, struct dml_alike *out) {
    *out = (struct dml_alike){0};
    if (part->classes < 2)
        return DML_OK;
    struct folded *names = dml_alloc(part->classes, sizeof *names);
    enum dml_status status = names ? DML_OK : DML_ERROR_MEMORY;
    for (size_t c = 0; c < part->classes && !status; c++) {
        names[c] = (struct folded){part->class_names[c], dml_strdup(part->class_names[c])};
        if (names[c].text)
            fold(names[c].name, names[c].text);
        else
            status = DML_ERROR_MEMORY;
    }
    if (!status)
        qsort(names, part->classes, sizeof *names, by_text);
    for (size_t c = 1; c < part->classes && !status; c++)
        if (strcmp(names[c].text, names[c - 1].text) == 0 && out->count++ == 0) {
            out->first = names[c - 1].name;
            out->second = names[c].name;
        }
    for (size_t c = 0; names && c < part->classes; c++)
        free(names[c].text);
    free(names);
    return status;
}

struct listed {
    const char *path;
    struct dml_rect box;
};

static int by_place(const void *a, const void *b) {
    const struct listed *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    return order ? order : memcmp(&x->box, &y->box, sizeof x->box);
}

enum dml_status dml_images_twice(const struct dml_part *part, struct dml_alike *out) {
    *out = (struct dml_alike){0};
    if (part->images < 2)
        return DML_OK;
    struct listed *images = dml_alloc(part->images, sizeof *images);
    if (!images)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < part->images; i++) {
        const struct dml_rect *box = dml_part_box(part, i);
        images[i].path = part->paths[i];
        if (box)
            images[i].box = *box;
    }
    qsort(images, part->images, sizeof *images, by_place);
    for (size_t i = 1; i < part->images; i++)
        if (by_place(&images[i - 1], &images[i]) == 0 && out->count++ == 0)
            out->first = out->second = images[i].path;
    free(images);
    return DML_OK;
}
