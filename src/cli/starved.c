#include "cli/starved.h"

#include <cblas.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *command = "";
static atomic_bool ended;

/* Commands that compute, and those of their flags that reduce the memory needed. */
static const struct {
    const char *name, *advice;
} computing[] = {
    {"train", "; a smaller --bs or --image_size, or fewer --kernels, needs less"},
    {"eval", "; a smaller --bs or fewer --kernels needs less"},
    {"embed", "; a smaller --bs or fewer --kernels needs less"},
    {"search", "; a smaller --bs or fewer --kernels needs less"},
};

static const char *flags_of(const char *name) {
    for (size_t i = 0; i < sizeof computing / sizeof computing[0]; i++)
        if (strcmp(computing[i].name, name) == 0)
            return computing[i].advice;
    return NULL;
}

const char *dml_starved_advice(const char *name) {
    static char advice[200];
    struct rlimit limit;
    const char *flags = flags_of(name) ? flags_of(name) : "";
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        snprintf(advice, sizeof advice, "%s; ulimit -v allows %llu MB", flags,
                 (unsigned long long)(limit.rlim_cur >> 20));
    else
        snprintf(advice, sizeof advice, "%s", flags);
    return advice;
}

/* Prints the last line and ends the program. Files that are being written keep their old content,
 * as after a kill. Several threads may fail at once: one reports it. */
static _Noreturn __attribute__((format(printf, 1, 2))) void end_without_memory(const char *format,
                                                                               ...) {
    if (atomic_exchange(&ended, true))
        for (;;) /* until the thread that reports it ends the program */
            pause();
    char what[200], line[500];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    snprintf(line, sizeof line, "%sdml%s%s: out of memory: %s%s\n",
             isatty(STDERR_FILENO) ? "\n" : "", *command ? " " : "", command, what,
             dml_starved_advice(command));
    ssize_t shown = write(STDERR_FILENO, line, strlen(line));
    (void)shown;
    _exit(1);
}

static void on_failed_new(void) {
    end_without_memory("oneDNN, the library that runs networks, got none");
}

/* A library called exit(). */
static void on_exit_of_others(void) {
    if (atomic_exchange(&ended, true))
        return;
    fprintf(stderr,
            "dml %s: out of memory or of threads: a library ended the program; OMP_NUM_THREADS=1 "
            "needs the least%s\n",
            command, dml_starved_advice(command));
}

/* Makes OpenMP start its threads and OpenBLAS map the main thread's buffer: what they cannot get is
 * reported before hours of work, not after. */
static void claim(void) {
    double matrix = 1, vector = 1, product = 0;
#pragma omp parallel
    atomic_load(&ended);
    cblas_dsymv(CblasRowMajor, CblasUpper, 1, 1, &matrix, 1, &vector, 1, 0, &product, 1);
}

void dml_starved_begin(const char *name) {
    /* std::set_new_handler, which has no name in C, from the C++ library that oneDNN brings
     * along */
    void *found = dlsym(RTLD_DEFAULT, "_ZSt15set_new_handlerPFvvE");
    void (*(*set_new_handler)(void (*)(void)))(void);
    memcpy(&set_new_handler, &found, sizeof found);
    command = name;
    if (found)
        set_new_handler(on_failed_new);
    atexit(on_exit_of_others);
    if (flags_of(name))
        claim();
}

void dml_starved_end(void) {
    atomic_store(&ended, true);
}

#ifndef __SANITIZE_ADDRESS__
/* The functions below replace the system's for all libraries. */

static bool is_in(const void *caller, const char *library) {
    Dl_info info;
    return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, library);
}

/* OpenBLAS asks for its buffers while it is loaded and whenever more threads call it, and would ask
 * again and again. oneDNN would write its code to nowhere. */
__attribute__((visibility("default"))) void *mmap(void *address, size_t size, int protection,
                                                  int flags, int file, off_t offset) {
    long mapped = syscall(SYS_mmap, address, size, protection, flags, file, offset);
    if (mapped == -1 && errno == ENOMEM && is_in(__builtin_return_address(0), "openblas"))
        end_without_memory("OpenBLAS, the library for matrices, cannot get %zu MB for a thread; "
                           "OMP_NUM_THREADS=1 needs the least",
                           size >> 20);
    if (mapped == -1 && errno == ENOMEM && is_in(__builtin_return_address(0), "dnnl"))
        end_without_memory("oneDNN, the library that runs networks, cannot get %zu bytes", size);
    return mapped == -1 ? MAP_FAILED : (void *)mapped;
}

/* oneDNN constructs objects in memory that it did not get. */
__attribute__((visibility("default"))) int posix_memalign(void **out, size_t alignment,
                                                          size_t size) {
    void *memory = aligned_alloc(alignment, size);
    if (!memory && is_in(__builtin_return_address(0), "dnnl"))
        end_without_memory("oneDNN, the library that runs networks, cannot get %zu bytes", size);
    if (memory)
        *out = memory;
    return memory ? 0 : ENOMEM;
}
#endif
