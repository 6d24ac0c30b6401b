#ifndef DML_BASE_LEVEL_H
#define DML_BASE_LEVEL_H

#include "dml/error.h"

/* The code that computes is compiled for several processor levels (x86-64-v2; -v3 with AVX2 and
 * FMA; -v4 with AVX-512). The highest that the processor has is chosen when the program or library
 * is loaded, or the one that the environment variable DML_LEVEL names (v2, v3, v4). A level gives
 * the same results, bit for bit, on every machine that has it. */

/* "x86-64-v3", or "generic" where kernels were compiled once. */
const char *dml_level_name(void);

/* The number of the level that DML_LEVEL names, 2 to 4, or 0. Libraries that also choose by
 * processor are held to it, so that their results depend on the machine no more than ours do. */
int dml_level_forced(void);

/* What OPENBLAS_CORETYPE has to be, before the program starts, for OpenBLAS to keep to the level
 * that DML_LEVEL names; NULL without one. */
const char *dml_level_openblas(void);

/* DML_ERROR_INPUT when DML_LEVEL names no level or one that the processor lacks, or when the
 * processor has none of them: then nothing that computes may be called. */
enum dml_status dml_level_check(void);

#endif
