#include "backends/cuda/cuda.h"

#include "base/files.h"
#include "base/memory.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libdml_cuda.so"

static const struct cuda_api *replaced, *found;
static char why_not[CUDA_REASON];
static bool there;
static pthread_once_t looked = PTHREAD_ONCE_INIT, opened = PTHREAD_ONCE_INIT;

enum visit { LOOK, OPEN };

static bool opens(const char *library) {
    void *opened = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
    if (opened)
        dlclose(opened);
    return opened;
}

/* Why the library is there but cannot be opened, by the loader's message. It names what the library
 * needs and the loader does not find, cuDNN most often, of which an older one may be there. */
static void explain(const char *said) {
    char message[512]; /* what was said does not outlast the next call of the loader */
    snprintf(message, sizeof message, "%s", said);
    static const char missing[] = ": cannot open shared object file", cudnn[] = "libcudnn.so.";
    char *end = strstr(message, missing);
    int major;
    if (end)
        *end = '\0';
    if (end && strncmp(message, cudnn, strlen(cudnn)) == 0 &&
        sscanf(message + strlen(cudnn), "%d", &major) == 1) {
        char older[32];
        snprintf(older, sizeof older, "%s%d", cudnn, major - 1);
        if (opens(older))
            snprintf(why_not, sizeof why_not, "cuDNN %d is older than %d, which " LIBRARY " needs",
                     major - 1, major);
        else
            snprintf(why_not, sizeof why_not,
                     "cuDNN %d is missing: " LIBRARY " needs %s%d, which the loader does not find",
                     major, cudnn, major);
    } else if (end) {
        snprintf(why_not, sizeof why_not, LIBRARY " needs %.100s, which the loader does not find",
                 message);
    } else {
        snprintf(why_not, sizeof why_not, "%s%.220s",
                 strstr(message, "symbol: cudnn") ? "cuDNN does not fit: " : "", message);
    }
}

/* FOLDER/LIBRARY: looks whether it is there, or opens it. */
static void *visit_in(enum visit what, const char *folder, int length) {
    char *path = dml_format("%.*s/" LIBRARY, length, folder);
    bool exists = path && dml_path_exists(path);
    void *library = exists && what == OPEN ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    const char *message = exists && what == OPEN && !library ? dlerror() : NULL;
    if (what == LOOK)
        there |= exists;
    if (message)
        explain(message);
    free(path);
    return library;
}

/* Tries every place until one has the library. */
static void *visit_all(enum visit what) {
    const char *folder = getenv("DML_BACKENDS"), *slash;
    void *library = NULL;
    Dl_info own;
    if (dladdr((void *)(size_t)&dml_cuda_find, &own) && own.dli_fname &&
        (slash = strrchr(own.dli_fname, '/'))) {
        int length = (int)(slash - own.dli_fname);
        static const char *const installed[] = {"dml", DML_LIBRARIES_FROM_PROGRAM};
        library = visit_in(what, own.dli_fname, length);
        for (int i = 0; !library && i < 2; i++) {
            char *beside = dml_format("%.*s/%s", length, own.dli_fname, installed[i]);
            library = beside ? visit_in(what, beside, (int)strlen(beside)) : NULL;
            free(beside);
        }
    }
    if (!library && folder && *folder)
        library = visit_in(what, folder, (int)strlen(folder));
    return library;
}

static void look_for_it(void) {
    visit_all(LOOK);
}

static void open_it(void) {
    const struct cuda_api *(*get)(void);
    snprintf(why_not, sizeof why_not, "this build has no GPU backend (" LIBRARY " is missing)");
    void *library = dml_cuda_built() ? visit_all(OPEN) : NULL;
    void *symbol = library ? dlsym(library, "dml_cuda_api") : NULL;
    if (!symbol) {
        if (library)
            snprintf(why_not, sizeof why_not, LIBRARY ": it does not belong to dml");
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
    pthread_once(&opened, open_it);
    if (!found)
        snprintf(reason, CUDA_REASON, "%s", why_not);
    return found;
}

bool dml_cuda_built(void) {
    pthread_once(&looked, look_for_it);
    return replaced || there;
}

bool dml_cuda_driver(void) {
    return replaced || opens("libcuda.so.1");
}

void dml_cuda_replace(const struct cuda_api *api) {
    replaced = api;
}
