#include "cli/cli.h"

#include "base/level.h"
#include "dml/dml.h"

#include <cblas.h>
#include <cjson/cJSON.h>
#include <dnnl.h>
#include <png.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <zip.h>
#include <zlib.h>

#include <jpeglib.h>

#define TEXT(name) #name
#define TEXT_OF(macro) TEXT(macro)

void dml_print_version(FILE *out) {
    const dnnl_version_t *dnnl = dnnl_version();
    fprintf(out, "dml %s\n", dml_version());
    fprintf(out, "kernels: %s\n", dml_level_name());
    /* OpenBLAS describes itself as "OpenBLAS 0.3.21 ..." with all of its build's options. */
    const char *blas = openblas_get_config();
    size_t length = strcspn(blas, " ");
    length += blas[length] ? 1 + strcspn(blas + length + 1, " ") : 0;
    fprintf(out, "libraries: oneDNN %d.%d.%d, %.*s (kernels: %s), SQLite %s, libjpeg %d",
            dnnl->major, dnnl->minor, dnnl->patch, (int)length, blas, openblas_get_corename(),
            sqlite3_libversion(), JPEG_LIB_VERSION);
#ifdef LIBJPEG_TURBO_VERSION
    fprintf(out, " (turbo %s)", TEXT_OF(LIBJPEG_TURBO_VERSION));
#endif
    fprintf(out, ", libpng %s, zlib %s, libzip %s, cJSON %s\n", png_get_libpng_ver(NULL),
            zlibVersion(), zip_libzip_version(), cJSON_Version());
}
