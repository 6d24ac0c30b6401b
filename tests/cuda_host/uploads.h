#ifndef TESTS_CUDA_UPLOADS_H
#define TESTS_CUDA_UPLOADS_H

#include "backends/cuda/device.h"

/* Uploads of the card in plain C that run beside its other work (device_host.h). */

/* `lasting`: what they come from is there until they are awaited; else it is copied now. */
void host_uploads_add(struct cuda_device *device, void *to, const void *from, size_t bytes,
                      bool lasting);
/* All of the device's end: they are done, or come to nothing. */
void host_uploads_end(struct cuda_device *device, bool done);
/* Those to this memory come to nothing. */
void host_uploads_drop(const void *memory, size_t bytes);

/* Whether some are under way to this memory, or from it. */
bool host_uploads_to(const void *memory, size_t bytes);
bool host_uploads_from(const void *memory, size_t bytes);

#endif
