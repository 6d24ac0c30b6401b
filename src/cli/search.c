#include "cli/cli.h"

#include "base/files.h"
#include "base/html.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/embedded.h"
#include "math/nearest.h"
#include "metrics/files.h"
#include "postprocess/postprocess.h"

#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: dml search --checkpoint FILE --gallery IMAGE|FOLDER|LIST ... --query IMAGE ...\n"
    "       dml search --gallery G.npy [--gallery_paths P.txt] --query Q.npy\n"
    "\n"
    "Finds each query's nearest images in a gallery. Either side is images (then a checkpoint\n"
    "embeds them) or one .npy file of embeddings; without --gallery, the gallery is the data set\n"
    "that the flags or the checkpoint name. Equal distances keep the gallery's order. The gallery\n"
    "may be whitened or augmented, queries expanded, and results re-ranked.\n"
    "\n"
    "  dml search --checkpoint C.safetensors --gallery photos/ --query one.jpg --html found.html\n";

struct search_options {
    char *checkpoint, *gallery_paths, *html;
    enum dml_cli_part part;
    struct dml_strings gallery, query;
    int64_t k;
    bool cosine;
};

#define AT(field) offsetof(struct search_options, field)
static const struct dml_param rows[] = {
    {"checkpoint", DML_PARAM_STRING, AT(checkpoint),
     .help = "Checkpoint of a run (checkpoint_*.safetensors in its folder), which embeds images."},
    {"gallery", DML_PARAM_STRINGS, AT(gallery),
     .help = "What is searched: one .npy file, or images, folders and lists of images. Without it: "
             "the checkpoint's data set, or that of the flags below."},
    {"gallery_paths", DML_PARAM_STRING, AT(gallery_paths),
     .help = "Text file with the images of a gallery in a .npy file, one path a line, as dml embed "
             "writes it: it gives the results names and pictures."},
    {"query", DML_PARAM_STRINGS, AT(query),
     .help = "What is searched for: one .npy file, or images, folders and lists of images."},
    {"k", DML_PARAM_INT, AT(k), "10", 1, 100000,
     .help = "How many to show for each query; by default, fewer if the gallery is smaller."},
    {"cosine", DML_PARAM_FLAG, AT(cosine), .help = "By cosine instead of Euclidean distance."},
    {"html", DML_PARAM_STRING, AT(html),
     .help = "Also write a page that contains the pictures and needs no server."},
    {"part", DML_PARAM_CHOICE, AT(part), "testing", .choices = dml_cli_parts,
     .help = "Which images of the data set to search, without --gallery."},
};
#undef AT
static const struct dml_param_table table = DML_PARAM_TABLE("Search", struct search_options, rows);

/* Queries or gallery: from images, or from files. */
struct side {
    size_t n, dim;
    struct dml_values embeddings;
    char **paths; /* (n), or NULL */
    struct dml_embedded embedded;
    struct dml_embedding_set files;
    char *text, **lines; /* of --gallery_paths */
};

static void close_side(struct side *side) {
    dml_embedded_free(&side->embedded);
    dml_embedding_set_close(&side->files);
    free(side->text);
    free(side->lines);
}

static bool is_npy(const struct dml_strings *sources) {
    size_t length = sources->count == 1 ? strlen(sources->items[0]) : 0;
    return length > 4 && strcmp(sources->items[0] + length - 4, ".npy") == 0;
}

static enum dml_status read_paths(const char *path, struct side *side) {
    enum dml_status status = dml_read_text(path, "is not a text file", &side->text);
    if (status)
        return status;
    side->lines = dml_alloc(side->n, sizeof *side->lines);
    if (!side->lines)
        return DML_ERROR_MEMORY;
    size_t count = 0;
    for (char *rest = side->text, *line; (line = strsep(&rest, "\n"));) {
        line[strcspn(line, "\r")] = 0;
        if (*line == 0)
            continue;
        dml_text_unescape(line);
        if (count < side->n)
            side->lines[count] = line;
        count++;
    }
    if (count != side->n)
        return dml_fail(DML_ERROR_INPUT, "%s: has %zu paths for %zu embeddings", path, count,
                        side->n);
    side->paths = side->lines;
    return DML_OK;
}

static enum dml_status open_side(const struct dml_strings *sources, const char *paths,
                                 const struct dml_model *model, struct dml_params *params,
                                 enum dml_cli_part part, struct side *out) {
    enum dml_status status;
    if (is_npy(sources)) {
        const struct dml_embedding_files files = {.embeddings = sources->items[0]};
        status = dml_embedding_set_open(&files, &out->files);
        out->n = out->files.set.n;
        out->dim = out->files.set.dim;
        out->embeddings = (struct dml_values){out->files.set.embeddings, out->files.set.exact};
        if (!status && *paths)
            status = read_paths(paths, out);
        return status;
    }
    if (!model->network)
        return dml_fail(DML_ERROR_USAGE, "--checkpoint is needed to embed images");
    status = dml_embedded_open(model, params, sources, part, &out->embedded);
    if (!status) {
        out->n = out->embedded.part->images;
        out->dim = out->embedded.dim;
        out->paths = out->embedded.part->paths;
    }
    return status;
}

/* Embeds a side that consists of images. */
static enum dml_status embed_side(const struct dml_model *model, const struct dml_params *params,
                                  struct side *side) {
    enum dml_status status = DML_OK;
    if (side->embedded.part) {
        status = dml_embedded_compute(model, params, NULL, &side->embedded);
        side->embeddings = (struct dml_values){.narrow = side->embedded.embeddings};
    }
    return status;
}

/* The path of sample i, or its number. */
static const char *name_of(const struct side *side, size_t i, char number[32]) {
    if (side->paths)
        return side->paths[i];
    snprintf(number, 32, "number %zu", i);
    return number;
}

static void print_found(const struct side *queries, size_t q, const struct side *gallery,
                        const struct dml_neighbour *found, size_t count) {
    char text[32];
    dml_text_put_line(stdout, name_of(queries, q, text));
    for (size_t r = 0; r < count; r++) {
        printf("\n  %4zu  %-12.6g ", r + 1, found[r].distance);
        dml_text_put_line(stdout, name_of(gallery, found[r].index, text));
    }
    putchar('\n');
}

static const char style[] =
    "body { font: 14px sans-serif; margin: 2em; background: #fff; color: #222 }\n"
    ".row { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 2em }\n"
    "figure { margin: 0; width: 160px }\n"
    "figure.query { border-right: 3px solid #36c; padding-right: 12px }\n"
    "img, .missing { width: 160px; height: 160px; object-fit: contain; background: #eee }\n"
    ".missing { overflow: hidden; font-size: 11px }\n"
    "figcaption { font-size: 12px; overflow-wrap: anywhere }\n";

/* Writes the JPEG or PNG file, or a grey box if it is neither, cannot be read or is NULL. */
static void write_picture(FILE *out, const char *path, const char *label) {
    struct dml_mapping file;
    bool mapped = path && dml_map_file(path, &file) == DML_OK;
    const char *kind = mapped ? dml_html_picture(file.data, file.size) : NULL;
    bool found = kind && strcmp(kind, "svg+xml") != 0;
    if (mapped && !found)
        dml_unmap_file(&file);
    fputs(found ? "<img alt=\"" : "<div class=missing>", out);
    dml_html_text(out, label);
    if (!found) {
        fputs("</div>", out);
        return;
    }
    fputs("\" ", out);
    dml_html_source(out, kind, file.data, file.size);
    fputc('>', out);
    dml_unmap_file(&file);
}

static void write_figure(FILE *out, const struct side *side, size_t i, const char *class,
                         const char *caption) {
    char number[32];
    const char *name = name_of(side, i, number);
    fprintf(out, "<figure class=%s>", class);
    write_picture(out, side->paths ? name : NULL, name);
    fputs("<figcaption>", out);
    dml_html_text(out, caption);
    fputs("<br>", out);
    dml_html_text(out, name);
    fputs("</figcaption></figure>\n", out);
}

static void write_found(FILE *out, const struct side *queries, size_t q, const struct side *gallery,
                        const struct dml_neighbour *found, size_t count) {
    fputs("<div class=row>\n", out);
    write_figure(out, queries, q, "query", "query");
    for (size_t r = 0; r < count; r++) {
        char caption[64];
        snprintf(caption, sizeof caption, "%zu: %.4g", r + 1, found[r].distance);
        write_figure(out, gallery, found[r].index, "found", caption);
    }
    fputs("</div>\n", out);
}

/* What is searched: the sides' own embeddings, or what post-processing made of them. */
struct space {
    const struct dml_values *queries, *gallery;
    struct dml_values processed[2];
    size_t dim;
    double *joined; /* queries, then the gallery */
    uint8_t *is_query, *is_gallery;
    int32_t *labels;
    struct dml_processed set;
    const struct dml_distance_source *source; /* re-ranked, or NULL */
    double *row;                              /* (queries + gallery) of the source */
};

static void close_space(struct space *space) {
    free(space->joined);
    free(space->is_query);
    free(space->is_gallery);
    free(space->labels);
    free(space->row);
    dml_processed_free(&space->set);
}

/* Both sides as one set, with masks. */
static enum dml_status join_sides(const struct side *queries, const struct side *gallery,
                                  struct space *out, struct dml_evaluation_set *set) {
    size_t n = queries->n + gallery->n, dim = queries->dim;
    out->joined = dml_alloc_aligned(n * dim, sizeof *out->joined);
    out->is_query = dml_alloc(n, 1);
    out->is_gallery = dml_alloc(n, 1);
    out->labels = dml_alloc(n, sizeof *out->labels);
    out->row = dml_alloc(n, sizeof *out->row);
    if (!out->joined || !out->is_query || !out->is_gallery || !out->labels || !out->row)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < queries->n * dim; i++)
        out->joined[i] = dml_value(&queries->embeddings, i);
    for (size_t i = 0; i < gallery->n * dim; i++)
        out->joined[queries->n * dim + i] = dml_value(&gallery->embeddings, i);
    memset(out->is_query, 1, queries->n);
    memset(out->is_gallery + queries->n, 1, gallery->n);
    *set = (struct dml_evaluation_set){.n = n,
                                       .dim = dim,
                                       .exact = out->joined,
                                       .labels = out->labels,
                                       .is_query = out->is_query,
                                       .is_gallery = out->is_gallery};
    return DML_OK;
}

static enum dml_status open_space(const struct search_options *o,
                                  const struct dml_postprocess_options *post,
                                  const struct side *queries, const struct side *gallery,
                                  struct space *out) {
    struct dml_evaluation_set set;
    *out = (struct space){&queries->embeddings, &gallery->embeddings, .dim = queries->dim};
    if (!dml_postprocess_any(post))
        return DML_OK;
    enum dml_status status = join_sides(queries, gallery, out, &set);
    if (!status)
        status = dml_postprocess_apply(post, &set, NULL, 0, !o->cosine, o->cosine, &out->set);
    if (status)
        return status;
    const struct dml_evaluation_set *done = &out->set.set;
    out->dim = done->dim;
    out->processed[0].wide = done->query_embeddings ? done->query_embeddings : done->exact;
    out->processed[1].wide = done->exact + queries->n * done->dim;
    out->queries = &out->processed[0];
    out->gallery = &out->processed[1];
    out->source = o->cosine ? done->cosine_distances : done->euclidean_distances;
    return DML_OK;
}

static enum dml_status find(const struct space *space, size_t q, const struct side *queries,
                            const struct side *gallery, bool cosine, size_t k,
                            struct dml_neighbour *found) {
    if (!space->source)
        return dml_nearest(space->queries, q, space->gallery, gallery->n, space->dim, cosine, k,
                           found);
    const uint32_t query = (uint32_t)q;
    struct dml_nearest_heap heap = {found, 0, k};
    enum dml_status status = space->source->rows(space->source->data, &query, 1, space->row);
    for (size_t j = 0; !status && j < gallery->n; j++)
        dml_nearest_offer(&heap, j, space->row[queries->n + j]);
    if (!status)
        dml_nearest_sort(&heap);
    return status;
}

static enum dml_status search(const struct search_options *o,
                              const struct dml_postprocess_options *post,
                              const struct side *queries, const struct side *gallery, FILE *page) {
    size_t k = (size_t)o->k < gallery->n ? (size_t)o->k : gallery->n;
    struct dml_neighbour *found = dml_alloc(k, sizeof *found);
    struct space space = {0};
    enum dml_status status =
        found ? open_space(o, post, queries, gallery, &space) : DML_ERROR_MEMORY;
    for (size_t q = 0; q < queries->n && !status; q++) {
        status = find(&space, q, queries, gallery, o->cosine, k, found);
        if (status)
            break;
        print_found(queries, q, gallery, found, k);
        if (page)
            write_found(page, queries, q, gallery, found, k);
    }
    close_space(&space);
    free(found);
    return status;
}

static enum dml_status search_to_page(const struct search_options *o,
                                      const struct dml_postprocess_options *post,
                                      const struct side *queries, const struct side *gallery) {
    struct dml_output page;
    enum dml_status status = dml_output_open(&page, o->html);
    if (status)
        return status;
    dml_html_begin(page.file, "dml search", style);
    status = search(o, post, queries, gallery, page.file);
    dml_html_end(page.file);
    if (!status)
        return dml_output_commit(&page);
    dml_output_discard(&page);
    return status;
}

/* What can be checked before anything is embedded. */
static enum dml_status check_sides(const struct search_options *o, const struct dml_params *params,
                                   const struct side *queries, const struct side *gallery) {
    if (queries->dim != gallery->dim)
        return dml_fail(DML_ERROR_INPUT, "queries have %zu dimensions, the gallery has %zu",
                        queries->dim, gallery->dim);
    if (dml_params_given(params, "k") && (size_t)o->k > gallery->n)
        return dml_fail(DML_ERROR_INPUT, "--k %lld: is more than the gallery of %zu",
                        (long long)o->k, gallery->n);
    const struct dml_postprocess_options *post =
        dml_params_options(params, &dml_postprocess_params);
    if ((size_t)post->whiten > queries->dim)
        return dml_fail(DML_ERROR_USAGE, "--whiten %lld: the embeddings have %zu dimensions",
                        (long long)post->whiten, queries->dim);
    return DML_OK;
}

static enum dml_status run(const struct search_options *o, struct dml_params *params) {
    struct dml_model model = {0};
    struct side queries = {0}, gallery = {0};
    const struct dml_postprocess_options *post =
        dml_params_options(params, &dml_postprocess_params);
    enum dml_status status = dml_postprocess_flags_check(params);
    if (status)
        return status;
    if (o->query.count == 0)
        return dml_fail(DML_ERROR_USAGE, "--query is missing");
    if (o->gallery.count == 0 && !*o->checkpoint)
        return dml_fail(DML_ERROR_USAGE, "--gallery is missing");
    if (*o->gallery_paths && !is_npy(&o->gallery))
        return dml_fail(DML_ERROR_USAGE, "--gallery_paths: needs a --gallery of one .npy file");
    if (*o->html && (status = dml_output_check(o->html)))
        return dml_fail_within(status, "--html");
    if (*o->checkpoint)
        status = dml_model_open(o->checkpoint, params, NULL, &model);
    if (!status)
        status = open_side(&o->query, "", &model, params, o->part, &queries);
    if (!status)
        status = open_side(&o->gallery, o->gallery_paths, &model, params, o->part, &gallery);
    if (!status)
        status = check_sides(o, params, &queries, &gallery);
    if (!status)
        status = embed_side(&model, params, &queries);
    if (!status)
        status = embed_side(&model, params, &gallery);
    if (!status)
        status = *o->html ? search_to_page(o, post, &queries, &gallery)
                          : search(o, post, &queries, &gallery, NULL);
    close_side(&queries);
    close_side(&gallery);
    dml_model_close(&model);
    return status;
}

int dml_search_main(int argc, char **argv) {
    struct dml_params *params;
    enum dml_status status =
        dml_cli_params(&table, &dml_postprocess_params, usage, argc, argv, &params);
    if (!status && params)
        status = run(dml_params_options(params, &table), params);
    dml_params_free(params);
    return dml_cli_finish("search", status);
}
