#include "base/stream.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static ssize_t take(void *cookie, const char *data, size_t size) {
    struct dml_stream *stream = cookie;
    if (stream->failed ||
        dml_grow(&stream->text, &stream->capacity, stream->size + size + 1, 1) != DML_OK) {
        stream->failed = true;
        return 0;
    }
    memcpy(stream->text + stream->size, data, size);
    stream->size += size;
    stream->text[stream->size] = 0;
    return (ssize_t)size;
}

enum dml_status dml_stream_open(struct dml_stream *stream) {
    *stream = (struct dml_stream){0};
    stream->file = fopencookie(stream, "w", (cookie_io_functions_t){.write = take});
    if (stream->file && take(stream, "", 0) == 0 && !stream->failed)
        return DML_OK;
    if (stream->file)
        fclose(stream->file);
    free(stream->text);
    *stream = (struct dml_stream){0};
    return dml_fail(DML_ERROR_MEMORY, "out of memory: a text");
}

enum dml_status dml_stream_close(struct dml_stream *stream, char **out) {
    bool failed = ferror(stream->file) != 0;
    failed = fclose(stream->file) != 0 || failed || stream->failed;
    *out = failed ? NULL : stream->text;
    if (failed)
        free(stream->text);
    *stream = (struct dml_stream){0};
    return failed ? dml_fail(DML_ERROR_MEMORY, "out of memory: a text") : DML_OK;
}
