#include "backends/cuda/cuda.h"

#include "base/memory.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libdml_cuda.so"

static const struct cuda_api *replaced, *found;
static char why_not[CUDA_REASON];
static bool there; /* a file of this name, whether or not it can be opened */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Opens FOLDER/LIBRARY, or LIBRARY alone where the system finds it. The loader's message is kept
 * where the file is there but cannot be opened, as without cuDNN. */
static void *open_in(const char *folder, int length) {
    char *path = folder ? dml_format("%.*s/" LIBRARY, length, folder) : dml_format(LIBRARY);
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library && path) {
        const char *message = dlerror();
        FILE *file = folder ? fopen(path, "r") : NULL;
        there |= file != NULL;
        if (file && message)
            snprintf(why_not, sizeof why_not, "%s", message);
        if (file)
            fclose(file);
    }
    free(path);
    return library;
}

static void *open_library(void) {
    const char *folder = getenv("DML_BACKENDS"), *slash;
    void *library = NULL;
    Dl_info own;
    if (dladdr((void *)(size_t)&dml_cuda_find, &own) && own.dli_fname &&
        (slash = strrchr(own.dli_fname, '/'))) {
        int length = (int)(slash - own.dli_fname);
        static const char *const installed[] = {"dml", DML_LIBRARIES_FROM_PROGRAM};
        library = open_in(own.dli_fname, length);
        for (int i = 0; !library && i < 2; i++) {
            char *beside = dml_format("%.*s/%s", length, own.dli_fname, installed[i]);
            library = beside ? open_in(beside, (int)strlen(beside)) : NULL;
            free(beside);
        }
    }
    if (!library && folder && *folder)
        library = open_in(folder, (int)strlen(folder));
    return library ? library : open_in(NULL, 0);
}

static void look(void) {
    const struct cuda_api *(*get)(void);
    snprintf(why_not, sizeof why_not, "this build has no GPU backend (" LIBRARY " is not there)");
    void *library = open_library();
    void *symbol = library ? dlsym(library, "dml_cuda_api") : NULL;
    there |= library != NULL;
    if (!symbol) {
        if (library)
            snprintf(why_not, sizeof why_not, LIBRARY ": it is not dml's");
        return;
    }
    memcpy(&get, &symbol, sizeof get);
    const struct cuda_api *api = get();
    if (api->interface == CUDA_INTERFACE)
        found = api;
    else
        snprintf(why_not, sizeof why_not, LIBRARY ": it belongs to another version of dml");
}

const struct cuda_api *dml_cuda_find(char *reason) {
    if (replaced)
        return replaced;
    pthread_once(&once, look);
    if (!found)
        snprintf(reason, CUDA_REASON, "%s", why_not);
    return found;
}

bool dml_cuda_built(void) {
    char reason[CUDA_REASON];
    return dml_cuda_find(reason) || there;
}

void dml_cuda_replace(const struct cuda_api *api) {
    replaced = api;
}
