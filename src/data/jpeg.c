#include "base/memory.h"
#include "data/formats.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* needs stdio.h, and is needed by jerror.h */
#include <jpeglib.h>

#include <jerror.h>

struct jpeg_decoder {
    struct jpeg_decompress_struct info; /* first: libjpeg's callbacks get a pointer to it */
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    bool ended;  /* the bytes did not suffice */
    bool filled; /* and pixels were made up for it */
    bool in_header;
    bool out_of_memory;
    bool complete; /* all pixels are there, whatever follows */
    uint8_t *cmyk; /* a row */
    size_t cmyk_capacity;
    char message[JMSG_LENGTH_MAX];
    char flaw[JMSG_LENGTH_MAX]; /* what was first said about corrupt data; "" */
};

enum {
    MOST_SCANS = 500, /* a progressive file with more is made to waste time */
    FEW_SCANS = 32,   /* encoders write up to a dozen */
    MARGIN = 16,      /* pixels around a crop, so that upsampled chroma sees its real neighbours */
};

static void on_error(j_common_ptr info) {
    struct jpeg_decoder *decoder = (struct jpeg_decoder *)info;
    decoder->out_of_memory = info->err->msg_code == JERR_OUT_OF_MEMORY;
    info->err->format_message(info, decoder->message);
    longjmp(decoder->escape, 1);
}

/* A few extra bytes before a marker are padding that cameras write. */
static bool is_about_pixels(const struct jpeg_error_mgr *errors) {
    enum { PADDING = 16 };
    int message = errors->msg_code;
    return message == JWRN_HIT_MARKER || message == JWRN_HUFF_BAD_CODE ||
           message == JWRN_ARITH_BAD_CODE || message == JWRN_MUST_RESYNC ||
           (message == JWRN_EXTRANEOUS_DATA && errors->msg_parm.i[0] > PADDING);
}

/* Level -1 is a warning. Pillow ignores them, and so pixels stay as they come, except after the
 * warning that they were made up where the file ended. */
static void on_message(j_common_ptr info, int level) {
    struct jpeg_decoder *decoder = (struct jpeg_decoder *)info;
    if (level >= 0 || decoder->in_header || !is_about_pixels(info->err))
        return;
    if (info->err->msg_code == JWRN_HIT_MARKER && decoder->ended)
        decoder->filled = true;
    if (!*decoder->flaw)
        info->err->format_message(info, decoder->flaw);
}

/* Each scan passes over all pixels, however few bytes it has: the more pixels, the fewer scans. */
static void on_progress(j_common_ptr info) {
    static const double MOST_WORK = 8e9; /* scans x pixels */
    struct jpeg_decoder *decoder = (struct jpeg_decoder *)info;
    int scans = decoder->info.input_scan_number;
    double work = (double)scans * decoder->info.image_width * decoder->info.image_height;
    if (scans > MOST_SCANS || (scans > FEW_SCANS && work > MOST_WORK)) {
        snprintf(decoder->message, sizeof decoder->message, "has more than %d scans", scans - 1);
        longjmp(decoder->escape, 1);
    }
}

static void source_nothing(j_decompress_ptr info) {
    (void)info;
}

static boolean source_fill(j_decompress_ptr info) {
    static const JOCTET end[] = {0xFF, JPEG_EOI};
    struct jpeg_decoder *decoder = (struct jpeg_decoder *)info;
    decoder->ended = true;
    if (decoder->in_header) {
        strcpy(decoder->message, "is cut short in its header");
        longjmp(decoder->escape, 1);
    }
    info->src->next_input_byte = end;
    info->src->bytes_in_buffer = sizeof end;
    return TRUE;
}

static void source_skip(j_decompress_ptr info, long count) {
    while (count > (long)info->src->bytes_in_buffer) {
        count -= (long)info->src->bytes_in_buffer;
        source_fill(info);
    }
    if (count > 0) {
        info->src->next_input_byte += count;
        info->src->bytes_in_buffer -= (size_t)count;
    }
}

struct jpeg_decoder *jpeg_decoder_new(void) {
    struct jpeg_decoder *decoder = dml_alloc(1, sizeof *decoder);
    if (!decoder)
        return NULL;
    decoder->info.err = jpeg_std_error(&decoder->errors);
    decoder->errors.error_exit = on_error;
    decoder->errors.emit_message = on_message;
    if (setjmp(decoder->escape)) {
        free(decoder);
        return NULL;
    }
    jpeg_create_decompress(&decoder->info);
    decoder->source = (struct jpeg_source_mgr){
        .init_source = source_nothing,
        .fill_input_buffer = source_fill,
        .skip_input_data = source_skip,
        .resync_to_restart = jpeg_resync_to_restart,
        .term_source = source_nothing,
    };
    decoder->info.src = &decoder->source;
    decoder->progress.progress_monitor = on_progress;
    decoder->info.progress = &decoder->progress;
    return decoder;
}

void jpeg_decoder_free(struct jpeg_decoder *decoder) {
    if (!decoder)
        return;
    jpeg_destroy_decompress(&decoder->info);
    free(decoder->cmyk);
    free(decoder);
}

/* Huffman codes take at least a bit for the mean of each block of 8 x 8, in its first scan.
 * Arithmetic coding has no such bound. */
static size_t least_bytes(const struct jpeg_decompress_struct *info) {
    size_t most = 0;
    for (int c = 0; c < info->num_components; c++) {
        const jpeg_component_info *component = &info->comp_info[c];
        size_t blocks = (size_t)component->width_in_blocks * component->height_in_blocks;
        most = blocks > most ? blocks : most;
    }
    return info->arith_code ? 0 : most / 8;
}

/* A progressive file's coefficients, two bytes each, are all held until its last scan. */
static size_t working_bytes(struct jpeg_decompress_struct *info) {
    size_t bytes = 0;
    for (int c = 0; c < info->num_components && jpeg_has_multiple_scans(info); c++) {
        const jpeg_component_info *component = &info->comp_info[c];
        bytes += (size_t)component->width_in_blocks * component->height_in_blocks * DCTSIZE2 * 2;
    }
    return bytes;
}

/* After a longjmp. An image that could be read with more memory is not a bad one. */
static enum dml_status failure(const struct jpeg_decoder *decoder) {
    return decoder->out_of_memory
               ? dml_fail(DML_ERROR_MEMORY, "out of memory: decoding a JPEG file")
               : DML_ERROR_INPUT;
}

enum dml_status jpeg_decoder_open(struct jpeg_decoder *decoder, const uint8_t *bytes, size_t size,
                                  struct format_header *out, const char **problem) {
    struct jpeg_decompress_struct *info = &decoder->info;
    decoder->ended = decoder->filled = decoder->complete = decoder->out_of_memory = false;
    decoder->in_header = true;
    *decoder->flaw = 0;
    out->starved = false;
    *problem = decoder->message;
    if (setjmp(decoder->escape)) {
        out->starved = decoder->ended;
        return failure(decoder);
    }
    jpeg_abort_decompress(info);
    decoder->source.next_input_byte = bytes;
    decoder->source.bytes_in_buffer = size;
    jpeg_read_header(info, TRUE);
    decoder->in_header = false;
    int channels = info->num_components;
    if (channels != 1 && channels != 3 && channels != 4) {
        snprintf(decoder->message, sizeof decoder->message, "is a JPEG file with %d channels",
                 channels);
        return DML_ERROR_INPUT;
    }
    out->width = (int)info->image_width;
    out->height = (int)info->image_height;
    out->least_bytes = least_bytes(info);
    out->working = working_bytes(info);
    return DML_OK;
}

/* Adobe's CMYK is stored inverted; rounding as in Pillow. */
static void row_from_cmyk(const uint8_t *cmyk, uint8_t *rgb, size_t width) {
    for (size_t x = 0; x < width; x++) {
        unsigned white = cmyk[4 * x + 3];
        for (int c = 0; c < 3; c++) {
            unsigned product = (255u - cmyk[4 * x + c]) * white + 128;
            unsigned ink = ((product >> 8) + product) >> 8;
            rgb[3 * x + c] = (uint8_t)(white > ink ? white - ink : 0);
        }
    }
}

static enum dml_status reserve_cmyk(struct jpeg_decoder *decoder) {
    void *row = decoder->cmyk;
    enum dml_status status =
        dml_grow(&row, &decoder->cmyk_capacity, (size_t)decoder->info.output_width * 4, 1);
    decoder->cmyk = row;
    return status;
}

static void read_rows(struct jpeg_decoder *decoder, struct dml_pixels *out) {
    struct jpeg_decompress_struct *info = &decoder->info;
    int end = out->rect.top + out->rect.height;
    while ((int)info->output_scanline < end) {
        uint8_t *row =
            out->data + (size_t)((int)info->output_scanline - out->rect.top) * out->stride;
        if (info->out_color_space == JCS_CMYK) {
            jpeg_read_scanlines(info, &decoder->cmyk, 1);
            row_from_cmyk(decoder->cmyk, row, info->output_width);
        } else {
            /* libjpeg never hands out more than two lines at a time. */
            uint8_t *rows[2] = {row, row + out->stride};
            int left = end - (int)info->output_scanline;
            jpeg_read_scanlines(info, rows, left > 1 ? 2 : 1);
        }
    }
}

/* Not inlined: its variables must not live in the frame that setjmp returns to. */
__attribute__((noinline)) static enum dml_status
decode_part(struct jpeg_decoder *decoder, struct dml_rect wanted, struct dml_pixels *out) {
    struct jpeg_decompress_struct *info = &decoder->info;
    info->out_color_space = info->num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(info);

    int width = (int)info->output_width;
    int right = wanted.left + wanted.width + MARGIN;
    JDIMENSION left = (JDIMENSION)(wanted.left > MARGIN ? wanted.left - MARGIN : 0);
    JDIMENSION columns = (JDIMENSION)(right < width ? right : width) - left;
    if ((int)columns < width)
        jpeg_crop_scanline(info, &left, &columns);
    int top = wanted.top > MARGIN ? wanted.top - MARGIN : 0;
    if (top > 0)
        jpeg_skip_scanlines(info, (JDIMENSION)top);
    struct dml_rect held = {(int)left, top, (int)columns, wanted.top + wanted.height - top};
    enum dml_status status = dml_pixels_reserve(out, held);
    if (!status && info->out_color_space == JCS_CMYK)
        status = reserve_cmyk(decoder);
    if (status)
        return status;
    read_rows(decoder, out);
    if (decoder->filled || (decoder->ended && jpeg_has_multiple_scans(info))) {
        strcpy(decoder->message, "is cut short");
        return DML_ERROR_INPUT;
    }
    /* libjpeg-turbo silently takes bad codes for zeros. That there were any shows at the end: the
     * data does not suffice for the pixels, or some is left. */
    decoder->complete = info->output_scanline == info->output_height;
    if (decoder->complete)
        jpeg_finish_decompress(info);
    return DML_OK;
}

enum dml_status jpeg_decoder_decode(struct jpeg_decoder *decoder, struct dml_rect wanted,
                                    struct dml_pixels *out, const char **problem) {
    *problem = decoder->message;
    if (setjmp(decoder->escape))
        return decoder->complete ? DML_OK : failure(decoder);
    enum dml_status status = decode_part(decoder, wanted, out);
    jpeg_abort_decompress(&decoder->info);
    return status;
}

const char *jpeg_decoder_flaw(const struct jpeg_decoder *decoder) {
    return *decoder->flaw ? decoder->flaw : NULL;
}
