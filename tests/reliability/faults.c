/* A library to preload: makes the n-th call of a kind fail, so that a test can see what a program
 * makes of it.
 *
 *     FAULT_KIND   "memory": allocations; "library": those of the libraries that compute;
 *                  "disk": what opens, writes, syncs, renames and closes files
 *     FAULT_AT     which call fails, from 1; 0: none
 *     FAULT_FOR    how many fail from there on (1)
 *     FAULT_PLACE  of the calls of this place alone, one that FAULT_PLACES names
 *     FAULT_PLACES a file for the places that called, "place calls" a line. A place is the
 *                  stack of return addresses within the program and the one from which a library
 *                  called, if one did; it is the same in every run
 *     FAULT_SHOW   a file for the stacks of the calls that fail
 *     FAULT_IN     name of the program that it is about; others that it starts are left alone
 *
 * The loader's allocations are not counted: it ends the program by itself. Standard streams are
 * left alone. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

enum { OFF, MEMORY, LIBRARY, DISK };

static int kind;
static long at, failing = 1;
static atomic_long calls;
static const char *places_file;
static uint64_t only_place;
static int show = -1;
static const void *whole; /* where the program lies */

/* Places that called, and how often. */
enum { PLACES = 1 << 16, DEPTH = 48 };
static struct {
    uint64_t place;
    long calls;
} seen[PLACES];
static pthread_mutex_t seeing = PTHREAD_MUTEX_INITIALIZER;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

__attribute__((constructor)) static void begin(void) {
    const char *program = getenv("FAULT_IN"), *what = getenv("FAULT_KIND");
    if (!program || !what || strcmp(program, program_invocation_short_name) != 0)
        return;
    at = number("FAULT_AT", 0);
    failing = number("FAULT_FOR", 1);
    places_file = getenv("FAULT_PLACES");
    only_place = getenv("FAULT_PLACE") ? strtoull(getenv("FAULT_PLACE"), NULL, 16) : 0;
    if (getenv("FAULT_SHOW"))
        show = open(getenv("FAULT_SHOW"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    Dl_info info;
    whole = dladdr((void *)getauxval(AT_ENTRY), &info) ? info.dli_fbase : NULL;
    backtrace((void *[1]){NULL}, 1); /* which allocates the first time */
    kind = strcmp(what, "memory") == 0 ? MEMORY : strcmp(what, "library") == 0 ? LIBRARY : DISK;
}

__attribute__((destructor)) static void end(void) {
    bool counted = kind != OFF && places_file;
    kind = OFF;
    FILE *file = counted ? fopen(places_file, "w") : NULL;
    for (size_t i = 0; file && i < PLACES; i++)
        if (seen[i].calls)
            fprintf(file, "%016llx %ld\n", (unsigned long long)seen[i].place, seen[i].calls);
    if (file)
        fclose(file);
}

static uint64_t mix(uint64_t sum, uint64_t value) {
    return (sum ^ value) * 1099511628211u;
}

/* The place that a stack belongs to. */
static uint64_t place_of_stack(void *const *frames, int count) {
    uint64_t place = 14695981039346656037u;
    bool called = false; /* the library that called is known */
    Dl_info here = {0};
    dladdr((void *)place_of_stack, &here);
    for (int i = 0; i < count; i++) {
        Dl_info info = {0};
        uintptr_t address = (uintptr_t)frames[i];
        if (dladdr(frames[i], &info))
            address -= (uintptr_t)info.dli_fbase;
        bool outside = info.dli_fbase != whole && info.dli_fbase != here.dli_fbase;
        if (outside && called)
            continue;
        called |= outside;
        place = mix(place, address);
    }
    return place ? place : 1;
}

/* The place that called this library. Stacks that were seen before are looked up. */
static uint64_t place_of(void) {
    static struct { uint64_t stack, place; } known[PLACES];
    void *frames[DEPTH];
    int count = backtrace(frames, DEPTH);
    uint64_t stack = 1;
    for (int i = 0; i < count; i++)
        stack = mix(stack, (uintptr_t)frames[i]);
    pthread_mutex_lock(&seeing);
    size_t i = stack % PLACES;
    while (known[i].place && known[i].stack != stack)
        i = (i + 1) % PLACES;
    if (!known[i].place)
        known[i].place = place_of_stack(frames, count);
    known[i].stack = stack;
    uint64_t place = known[i].place;
    pthread_mutex_unlock(&seeing);
    return place;
}

/* Which call of its place this one is. */
static long call_of(uint64_t place) {
    pthread_mutex_lock(&seeing);
    size_t i = place % PLACES;
    while (seen[i].calls && seen[i].place != place)
        i = (i + 1) % PLACES;
    seen[i].place = place;
    long call = ++seen[i].calls;
    pthread_mutex_unlock(&seeing);
    return call;
}

static bool due(void) {
    static _Thread_local bool within; /* what finds the place may allocate */
    if (within)
        return false;
    within = true;
    long call = atomic_fetch_add(&calls, 1) + 1;
    bool here = true;
    if (only_place || places_file) {
        uint64_t place = place_of();
        long of_place = call_of(place);
        here = !only_place || place == only_place;
        call = only_place ? of_place : call;
    }
    bool fails = here && at > 0 && call >= at && call < at + failing;
    if (fails && show >= 0) {
        void *frames[DEPTH];
        backtrace_symbols_fd(frames, backtrace(frames, DEPTH), show);
    }
    within = false;
    return fails;
}

/* Whose allocation it is: MEMORY, LIBRARY, or OFF where it is to be left alone. */
static int kind_of(const void *caller) {
    static const char *const names[] = {"libdnnl",   "libgomp", "libopenblas",
                                        "libstdc++", "libblas", "liblapack"};
    Dl_info info;
    if (!dladdr(caller, &info) || !info.dli_fname || strstr(info.dli_fname, "ld-linux"))
        return OFF;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strstr(info.dli_fname, names[i]))
            return LIBRARY;
    return MEMORY;
}

static bool no_memory(const void *caller) {
    static _Thread_local bool within; /* dladdr may allocate */
    if ((kind != MEMORY && kind != LIBRARY) || within)
        return false;
    within = true;
    bool fails = kind_of(caller) == kind && due();
    within = false;
    if (fails)
        errno = ENOMEM;
    return fails;
}

void *malloc(size_t size) {
    return no_memory(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    return no_memory(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    return no_memory(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return no_memory(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    void *memory = no_memory(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);
    if (memory)
        *out = memory;
    return memory ? 0 : ENOMEM;
}

/* The function that a name stands for without this library. */
static void *next(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

static bool no_disk(int reason) {
    if (kind != DISK || !due())
        return false;
    errno = reason;
    return true;
}

/* Whether a descriptor is a file that can be written. */
static bool is_written(int fd) {
    struct stat info;
    int saved = errno, flags = kind == DISK && fd > 2 ? fcntl(fd, F_GETFL) : -1;
    bool written = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && fstat(fd, &info) == 0 &&
                   S_ISREG(info.st_mode);
    errno = saved;
    return written;
}

ssize_t write(int fd, const void *data, size_t size) {
    ssize_t (*function)(int, const void *, size_t) = next("write");
    return is_written(fd) && no_disk(ENOSPC) ? -1 : function(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    ssize_t (*function)(int, const void *, size_t, off_t) = next("pwrite");
    return is_written(fd) && no_disk(ENOSPC) ? -1 : function(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    ssize_t (*function)(int, const void *, size_t, off64_t) = next("pwrite64");
    return is_written(fd) && no_disk(ENOSPC) ? -1 : function(fd, data, size, offset);
}

int ftruncate(int fd, off_t length) {
    int (*function)(int, off_t) = next("ftruncate");
    return is_written(fd) && no_disk(EIO) ? -1 : function(fd, length);
}

int fsync(int fd) {
    int (*function)(int) = next("fsync");
    return no_disk(EIO) ? -1 : function(fd);
}

int fdatasync(int fd) {
    int (*function)(int) = next("fdatasync");
    return no_disk(EIO) ? -1 : function(fd);
}

int rename(const char *from, const char *to) {
    int (*function)(const char *, const char *) = next("rename");
    return no_disk(EIO) ? -1 : function(from, to);
}

int mkdir(const char *path, mode_t mode) {
    int (*function)(const char *, mode_t) = next("mkdir");
    return no_disk(ENOSPC) ? -1 : function(path, mode);
}

int close(int fd) {
    int (*function)(int) = next("close");
    bool fails = is_written(fd) && no_disk(EIO);
    int code = function(fd);
    if (fails)
        errno = EIO;
    return fails ? -1 : code;
}

int open(const char *path, int flags, ...) {
    int (*function)(const char *, int, ...) = next("open");
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return (flags & O_ACCMODE) != O_RDONLY && no_disk(ENOSPC) ? -1 : function(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    int (*function)(const char *, int, ...) = next("open64");
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return (flags & O_ACCMODE) != O_RDONLY && no_disk(ENOSPC) ? -1 : function(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode) {
    FILE *(*function)(const char *, const char *) = next("fopen");
    return *mode != 'r' && no_disk(ENOSPC) ? NULL : function(path, mode);
}

int fflush(FILE *file) {
    int (*function)(FILE *) = next("fflush");
    return file && is_written(fileno(file)) && no_disk(ENOSPC) ? EOF : function(file);
}

int fclose(FILE *file) {
    int (*function)(FILE *) = next("fclose");
    bool fails = is_written(fileno(file)) && no_disk(EIO);
    int code = function(file);
    if (fails)
        errno = EIO;
    return fails ? EOF : code;
}
