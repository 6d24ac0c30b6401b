#include "cuda_host/uploads.h"

#include "cuda_host/device_host.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4 };

static struct upload {
    struct cuda_device *device;
    void *to, *own; /* own: a copy of what does not last */
    const void *from;
    size_t bytes;
} uploads[MOST];
static size_t count, begun;
static bool early, forgetful;

void cuda_host_upload_early(bool value) {
    early = value;
}
void cuda_host_forget_to_wait(bool forget) {
    forgetful = forget;
}
size_t cuda_host_uploads_ahead(void) {
    return begun;
}

void host_uploads_add(struct cuda_device *device, void *to, const void *from, size_t bytes,
                      bool lasting) {
    begun++;
    if (early) {
        memcpy(to, from, bytes);
        return;
    }
    assert(count < MOST);
    struct upload *upload = &uploads[count++];
    *upload = (struct upload){device, to, lasting ? NULL : malloc(bytes), from, bytes};
    if (!lasting) {
        assert(upload->own);
        upload->from = memcpy(upload->own, from, bytes);
    }
    memset(to, 0xff, bytes);
}

static void end(size_t i, bool done) {
    if (done)
        memcpy(uploads[i].to, uploads[i].from, uploads[i].bytes);
    free(uploads[i].own);
    uploads[i] = uploads[--count];
}

void host_uploads_end(struct cuda_device *device, bool done) {
    for (size_t i = count; i-- > 0;)
        if (uploads[i].device == device)
            end(i, done && !forgetful);
}

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y + b_bytes && y < x + a_bytes;
}

void host_uploads_drop(const void *memory, size_t bytes) {
    for (size_t i = count; i-- > 0;)
        if (overlap(uploads[i].to, uploads[i].bytes, memory, bytes))
            end(i, false);
}

bool host_uploads_to(const void *memory, size_t bytes) {
    for (size_t i = 0; i < count; i++)
        if (overlap(uploads[i].to, uploads[i].bytes, memory, bytes))
            return true;
    return false;
}

bool host_uploads_from(const void *memory, size_t bytes) {
    for (size_t i = 0; i < count; i++)
        if (overlap(uploads[i].from, uploads[i].bytes, memory, bytes))
            return true;
    return false;
}
