#include "data/doubts.h"

#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "data/alike.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEW_CLASSES = 20, MANY_IMAGES = 2000 };

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

enum dml_status dml_parts_shared(const struct dml_part *a, const struct dml_part *b, size_t *count,
                                 const char **first) {
    *count = 0;
    *first = NULL;
    if (a->classes == 0 || b->classes == 0)
        return DML_OK;
    const char **names = dml_alloc(a->classes, sizeof *names);
    if (!names)
        return DML_ERROR_MEMORY;
    for (size_t c = 0; c < a->classes; c++)
        names[c] = a->class_names[c];
    qsort(names, a->classes, sizeof *names, by_text);
    for (size_t c = 0; c < b->classes; c++)
        if (bsearch(&b->class_names[c], names, a->classes, sizeof *names, by_text)) {
            *first = *first ? *first : b->class_names[c];
            ++*count;
        }
    free(names);
    return DML_OK;
}

/* "PLACE: message" in one line, whatever is in names. */
__attribute__((format(printf, 2, 3))) static void say(const struct dml_dataset *dataset,
                                                      const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    char *place = dml_text_line(dataset->place), *line = dml_text_line(message);
    if (place && line)
        dml_warn("%s: %s", place, line);
    free(place);
    free(line);
}

static bool has_pair(const struct dml_part *part) {
    for (size_t i = 1; i < part->images; i++)
        if (part->labels[i] == part->labels[i - 1])
            return true;
    return false;
}

/* Whether something was reported. */
static bool doubt_part(const struct dml_dataset *dataset, const struct dml_part *part) {
    const char *name = part->name;
    char **classes = part->class_names;
    size_t count = part->classes, each = count ? part->images / count : 0;
    if (count == 1)
        say(dataset,
            "%s has one class, \"%s\", of %zu images; is it a class, or a part of the "
            "data set?%s",
            name, classes[0], part->images,
            part == &dataset->training ? "" : " Whatever is retrieved is right");
    else if (count > 1 && count <= FEW_CLASSES && each >= MANY_IMAGES)
        say(dataset, "%s has %zu classes of %zu images each; are they classes, or categories?",
            name, count, each);
    else if (count > 1 && !has_pair(part))
        say(dataset, "%s has no class with two images; are its %zu labels classes, or images?",
            name, count);
    else if (count == 2)
        say(dataset,
            "%s has two classes, \"%s\" and \"%s\"; are they classes, or parts of the "
            "data set?",
            name, classes[0], classes[1]);
    else
        return false;
    return true;
}

/* What is there twice is told whatever else is odd: it changes the metrics. */
static void doubt_twins(const struct dml_dataset *dataset, const struct dml_part *part) {
    struct dml_alike alike;
    if (dml_images_twice(part, &alike) == DML_OK && alike.count)
        say(dataset, "%s lists %zu images more than once, as %s%s", part->name, alike.count,
            alike.first,
            part == &dataset->training ? "" : "; what is retrieved first is then the query itself");
    if (dml_classes_alike(part, &alike) == DML_OK && alike.count)
        say(dataset,
            "%s has classes \"%s\" and \"%s\"%s, whose names are nearly the same; are they one "
            "class?",
            part->name, alike.first, alike.second, alike.count > 1 ? " and others" : "");
}

void dml_dataset_doubts(const struct dml_dataset *dataset) {
    const char *first;
    size_t count;
    bool said = doubt_part(dataset, &dataset->training) || doubt_part(dataset, &dataset->testing) ||
                doubt_part(dataset, &dataset->validation);
    if (!said &&
        dml_parts_shared(&dataset->training, &dataset->testing, &count, &first) == DML_OK && count)
        say(dataset,
            "%zu classes are in training and in testing, as \"%s\"; the metrics are then "
            "not those of unseen classes",
            count, first);
    doubt_twins(dataset, &dataset->training);
    doubt_twins(dataset, &dataset->validation);
    doubt_twins(dataset, &dataset->testing);
}
