#include "cli/cli.h"

#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"
#include "data/check.h"
#include "data/doubts.h"
#include "data/duplicates.h"
#include "data/layout.h"
#include "train/experiment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LISTED = 10 };

static const char usage[] =
    "usage: dml dataset check PLACE [FLAGS]\n"
    "       dml dataset convert PLACE OUT.csv [FLAGS]\n"
    "\n"
    "check says what is in a data set before hours are spent on it: its layout, the classes and\n"
    "images of its parts, the smallest and the largest class, images that cannot be read, and\n"
    "files that are in two parts. The exit status is 1 if any image cannot be read.\n"
    "convert writes the data set as the table that --dataset_csv reads; paths of images below the\n"
    "table's folder are relative to it.\n"
    "\n"
    "  PLACE  the data set's folder, or a CSV file\n"
    "\n"
    "Layouts:\n";

static void print_help(const struct dml_params *params) {
    fputs(usage, stdout);
    const struct dml_layout_kind *kind;
    for (size_t i = 0; (kind = dml_layout_at(i)); i++)
        printf("  %-16s %s\n", kind->name, kind->summary);
    printf("  %-16s %s\n", "table",
           "A CSV file with the columns path, label, split, and optionally is_query, is_gallery, "
           "x_1, x_2, y_1, y_2, sequence\n");
    dml_params_help(params, stdout);
}

/* Sets the flags that make a folder or a table the data set. */
static enum dml_status set_place(struct dml_params *params, const char *place) {
    char *real = realpath(place, NULL), *flags[2] = {NULL, NULL};
    if (!real)
        return dml_fail(DML_ERROR_INPUT, "%s: %s", place,
                        errno == ENOENT ? "no such file or folder" : strerror(errno));
    char *slash = strrchr(real, '/');
    int count = dml_is_folder(real) ? 2 : 1;
    if (count == 2) {
        flags[0] = dml_format("--dataset=%s", slash + 1);
        *slash = 0;
        flags[1] = dml_format("--source_path=%s", slash == real ? "/" : real);
    } else {
        flags[0] = dml_format("--dataset_csv=%s", real);
    }
    enum dml_status status = flags[0] && (count == 1 || flags[1])
                                 ? dml_params_parse(params, count, flags)
                                 : DML_ERROR_MEMORY;
    free(flags[0]);
    free(flags[1]);
    free(real);
    return status;
}

/* "9 (012.heron)" */
static void print_extreme(const struct dml_part *part, const size_t *sizes, bool largest) {
    size_t found = 0;
    for (size_t c = 1; c < part->classes; c++)
        if (largest ? sizes[c] > sizes[found] : sizes[c] < sizes[found])
            found = c;
    printf("%s %zu (", largest ? ", largest" : "; smallest class", sizes[found]);
    dml_text_put_line(stdout, part->class_names[found]);
    putchar(')');
}

static enum dml_status print_part(const struct dml_part *part) {
    size_t *sizes = dml_alloc(part->classes, sizeof *sizes), queries = 0, gallery = 0;
    if (!sizes)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < part->images; i++) {
        sizes[part->labels[i]]++;
        queries += part->is_query ? part->is_query[i] : 0;
        gallery += part->is_gallery ? part->is_gallery[i] : 0;
    }
    printf("%-11s %s classes, %s images", part->name, dml_thousands(part->classes),
           dml_thousands(part->images));
    if (part->images) {
        print_extreme(part, sizes, false);
        print_extreme(part, sizes, true);
    }
    if (part->is_query)
        printf("; %s queries, %s in the gallery", dml_thousands(queries), dml_thousands(gallery));
    if (part->boxes)
        printf("; boxes of their files");
    putchar('\n');
    free(sizes);
    return DML_OK;
}

static void tell_unreadable(void *data, const char *message) {
    size_t *told = data;
    if ((*told)++ < LISTED) {
        printf("  ");
        dml_text_put_line(stdout, message);
        putchar('\n');
    }
}

static void tell_duplicate(void *data, const char *path, const char *earlier) {
    size_t *told = data;
    if ((*told)++ < LISTED) {
        printf("  ");
        dml_text_put_line(stdout, path);
        printf(" is ");
        dml_text_put_line(stdout, earlier);
        putchar('\n');
    }
}

static void print_rest(size_t count) {
    if (count > LISTED)
        printf("  and %s more\n", dml_thousands(count - LISTED));
}

static enum dml_status check(const struct dml_dataset *dataset) {
    const struct dml_part *const parts[] = {&dataset->training, &dataset->validation,
                                            &dataset->testing};
    enum dml_status status = DML_OK;
    const char *first;
    size_t told = 0, shared, unreadable, duplicates = 0;
    printf("%-11s ", "place");
    dml_text_put_line(stdout, dataset->place);
    printf("\n%-11s %s\n", "layout", dataset->layout);
    for (int p = 0; p < 3 && !status; p++)
        if (parts[p]->images || p != 1)
            status = print_part(parts[p]);
    if (!status)
        status = dml_parts_shared(&dataset->training, &dataset->testing, &shared, &first);
    if (status)
        return status;
    printf("%-11s %s classes are in training and in testing\n", "shared", dml_thousands(shared));
    fflush(stdout);
    dml_dataset_doubts(dataset);
    status = dml_check_each(dataset, tell_unreadable, &told, &unreadable);
    if (status)
        return status;
    print_rest(unreadable);
    printf("%-11s %s images cannot be read\n", "unreadable", dml_thousands(unreadable));
    told = 0;
    status = dml_duplicates_find(dataset, tell_duplicate, &told, &duplicates);
    print_rest(duplicates);
    if (!status)
        printf("%-11s %s images are in two parts\n", "duplicates", dml_thousands(duplicates));
    if (!status && unreadable)
        status =
            dml_fail(DML_ERROR_INPUT, "%s: %zu images cannot be used", dataset->place, unreadable);
    return status;
}

/* The columns that a table has besides path, label and split. */
struct extras {
    bool marks, boxes, sequences;
};

static void write_row(FILE *out, const struct dml_part *part, size_t i, const char *split,
                      const struct extras *extras, const char *folder) {
    size_t length = strlen(folder);
    const char *path = part->paths[i];
    bool below = strncmp(path, folder, length) == 0 && path[length] == '/';
    char *real = below || *path == '/' ? NULL : realpath(path, NULL);
    dml_text_csv(out, below ? path + length + 1 : real ? real : path);
    free(real);
    fputc(',', out);
    dml_text_csv(out, part->class_names[part->labels[i]]);
    fprintf(out, ",%s", split);
    if (extras->marks)
        fprintf(out, ",%d,%d", part->is_query ? part->is_query[i] : 1,
                part->is_gallery ? part->is_gallery[i] : 1);
    if (extras->sequences && part->sequences && part->sequences[i] > 0)
        fprintf(out, ",%d", part->sequences[i]);
    else if (extras->sequences)
        fputc(',', out);
    const struct dml_rect *box = dml_part_box(part, i);
    if (extras->boxes && box && box->width)
        fprintf(out, ",%d,%d,%d,%d", box->left, box->left + box->width, box->top,
                box->top + box->height);
    else if (extras->boxes)
        fputs(",,,,", out);
    fputc('\n', out);
}

/* The real path of the folder that holds a file. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash == path ? dml_strdup("/")
                   : slash       ? dml_format("%.*s", (int)(slash - path), path)
                                 : dml_strdup(".");
    char *real = folder ? realpath(folder, NULL) : NULL;
    free(folder);
    return real;
}

static enum dml_status convert(const struct dml_dataset *dataset, const char *path) {
    static const char *const splits[] = {"train", "val", "test"};
    const struct dml_part *const parts[] = {&dataset->training, &dataset->validation,
                                            &dataset->testing};
    struct extras extras = {false, false, false};
    struct dml_output output;
    size_t images = 0;
    for (int p = 0; p < 3; p++) {
        extras.marks = extras.marks || parts[p]->is_query;
        extras.boxes = extras.boxes || parts[p]->boxes;
        extras.sequences = extras.sequences || parts[p]->sequences;
        images += parts[p]->images;
    }
    enum dml_status status = dml_output_open(&output, path);
    if (status)
        return status;
    char *folder = folder_of(path);
    if (!folder) {
        dml_output_discard(&output);
        return DML_ERROR_MEMORY;
    }
    fprintf(output.file, "path,label,split%s%s%s\n", extras.marks ? ",is_query,is_gallery" : "",
            extras.sequences ? ",sequence" : "", extras.boxes ? ",x_1,x_2,y_1,y_2" : "");
    for (int p = 0; p < 3; p++)
        for (size_t i = 0; i < parts[p]->images; i++)
            write_row(output.file, parts[p], i, splits[p], &extras, folder);
    free(folder);
    status = dml_output_commit(&output);
    if (!status)
        dml_cli_print("%s: %s images\n", path, dml_thousands(images));
    return status;
}

int dml_dataset_main(int argc, char **argv) {
    struct dml_params *params = NULL;
    struct dml_dataset dataset = {.layout = NULL};
    bool converts = argc > 1 && strcmp(argv[1], "convert") == 0;
    int words = converts ? 4 : 3; /* before the flags */
    enum dml_status status = dml_params_new(&params);
    if (!status)
        status = dml_params_add(params, &dml_dataset_params);
    if (!status && dml_cli_wants_help(argc, argv)) {
        print_help(params);
        dml_params_free(params);
        return 0;
    }
    bool known = converts || (argc > 1 && strcmp(argv[1], "check") == 0);
    for (int i = 2; i < words && known; i++)
        known = i < argc && argv[i][0] != '-';
    if (!status && !known) {
        fprintf(stderr, "%.*s", (int)(strstr(usage, "\n\n") + 1 - usage), usage);
        dml_params_free(params);
        return 2;
    }
    if (!status)
        status = set_place(params, argv[2]);
    if (!status)
        status = dml_params_parse(params, argc - words, argv + words);
    if (!status)
        status = dml_dataset_read(dml_params_options(params, &dml_dataset_params), 0, &dataset);
    if (!status)
        status = converts ? convert(&dataset, argv[3]) : check(&dataset);
    dml_dataset_close(&dataset);
    dml_params_free(params);
    return dml_cli_finish("dataset", status);
}
