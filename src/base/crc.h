#ifndef DML_BASE_CRC_H
#define DML_BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli), as TensorBoard's records have it. `crc` is 0 for the first bytes, then the
 * result so far. For the CRC-32 of zip there is zlib's. */
uint32_t dml_crc32c(uint32_t crc, const void *data, size_t size);

#endif
