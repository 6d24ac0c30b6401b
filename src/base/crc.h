#ifndef DML_BASE_CRC_H
#define DML_BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli), as in TensorBoard's records. `crc` is 0 for the first bytes, then the
 * result so far. For zip's CRC-32, use zlib. */
uint32_t dml_crc32c(uint32_t crc, const void *data, size_t size);

#endif
