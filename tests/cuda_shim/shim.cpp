#include "shim.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <ucontext.h>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
enum { SWAP_CONTEXTS = 1 }; /* which AddressSanitizer understands */
#else
enum { SWAP_CONTEXTS = 0 }; /* the compiler's jumps are faster: they save three registers */
#endif

struct shim_index threadIdx, blockIdx, blockDim, gridDim;

namespace {

enum { STACK = 256 << 10 };

typedef void *jump_buffer[5]; /* __builtin_setjmp's */

/* A stack on which threads run one after another, until one of them stands at a barrier: then the
 * next thread takes another stack. A kernel without barriers needs only one. */
struct fiber {
    ucontext_t context;
    jump_buffer jump;
    char *stack;
    bool started;
    unsigned thread; /* that stands at a barrier */
};

struct block {
    const std::function<void()> *body;
    const char *kernel;
    std::vector<unsigned> order;
    size_t next;                  /* of `order`, to start */
    std::vector<fiber *> waiting; /* at the barrier, in the order in which they came */
    const char *file;             /* of that barrier */
    int line;
    unsigned ended;
    std::map<const void *, std::pair<void *, size_t>> shared;
};

block now;
fiber *current;

/* Fibers that wait to be used again; they go when the program ends. */
struct fibers : std::vector<fiber *> {
    ~fibers() {
        for (fiber *f : *this) {
            free(f->stack);
            delete f;
        }
    }
} idle;
ucontext_t scheduler_context;
jump_buffer scheduler_jump;
int thread_order = SHIM_FORWARD;
size_t launched;

/* On its own, as the compiler asks for. */
[[noreturn]] __attribute__((noinline)) void jump_to(jump_buffer &where) {
    __builtin_longjmp(where, 1);
}

__attribute__((noinline)) void to_scheduler() {
    if (SWAP_CONTEXTS)
        swapcontext(&current->context, &scheduler_context);
    else if (!__builtin_setjmp(current->jump))
        jump_to(scheduler_jump);
}

/* A fiber's life: threads until none is left to start; then it waits to be used again. */
void fiber_main() {
    for (;;) {
        while (now.next < now.order.size()) {
            threadIdx.x = now.order[now.next++];
            (*now.body)();
            now.ended++;
        }
        idle.push_back(current);
        to_scheduler();
    }
}

__attribute__((noinline)) void resume(fiber *f) {
    current = f;
    threadIdx.x = f->thread;
    if (!f->started || SWAP_CONTEXTS) {
        f->started = true;
        if (SWAP_CONTEXTS)
            swapcontext(&scheduler_context, &f->context);
        else if (!__builtin_setjmp(scheduler_jump))
            setcontext(&f->context);
    } else if (!__builtin_setjmp(scheduler_jump)) {
        jump_to(f->jump);
    }
}

/* Not part of what calls it: it may return twice. */
__attribute__((noinline)) void prepare(fiber *f) {
    f->stack = (char *)malloc(STACK);
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
}

fiber *fresh_fiber() {
    if (!idle.empty()) {
        fiber *f = idle.back();
        idle.pop_back();
        return f;
    }
    fiber *f = new fiber();
    prepare(f);
    return f;
}

[[noreturn]] void stop(const char *what, const char *file, int line) {
    fprintf(stderr, "%s: block %u: %s (%s:%d)\n", now.kernel, blockIdx.x, what, file, line);
    abort();
}

void run_block() {
    now.next = 0;
    now.ended = 0;
    now.waiting.clear();
    while (now.next < now.order.size())
        resume(fresh_fiber());
    while (!now.waiting.empty()) {
        if (now.ended)
            stop("a thread ended without the barrier that others wait at", now.file, now.line);
        std::vector<fiber *> going;
        going.swap(now.waiting);
        for (fiber *f : going)
            resume(f);
    }
    for (auto &entry : now.shared)
        free(entry.second.first);
    now.shared.clear();
}

} // namespace

void shim_launch(size_t blocks, unsigned threads, const char *name,
                 const std::function<void()> &thread) {
    launched++;
    now.body = &thread;
    now.kernel = name;
    now.order.resize(threads);
    for (unsigned t = 0; t < threads; t++)
        now.order[t] = thread_order == SHIM_REVERSED ? threads - 1 - t : t;
    unsigned state = 12345; /* a fixed shuffle, Fisher and Yates's */
    for (unsigned t = threads; thread_order == SHIM_SHUFFLED && t > 1; t--) {
        state = state * 1664525u + 1013904223u;
        std::swap(now.order[t - 1], now.order[(state >> 8) % t]);
    }
    blockDim = {threads, 1, 1};
    gridDim = {(unsigned)blocks, 1, 1};
    for (size_t b = 0; b < blocks; b++) {
        blockIdx = {(unsigned)b, 0, 0};
        run_block();
    }
}

void *shim_shared(const void *key, size_t bytes) {
    auto found = now.shared.find(key);
    if (found != now.shared.end())
        return found->second.first;
    void *memory = malloc(bytes); /* a piece of its own, so that AddressSanitizer knows its ends */
    memset(memory, 0xff, bytes);  /* NaN */
    now.shared[key] = {memory, bytes};
    return memory;
}

void shim_barrier(const char *file, int line) {
    if (!now.waiting.empty() &&
        (now.line != line || (now.file != file && strcmp(now.file, file) != 0)))
        stop("threads wait at different barriers", file, line);
    now.file = file;
    now.line = line;
    fiber *own = current;
    own->thread = threadIdx.x;
    now.waiting.push_back(own);
    to_scheduler();
    /* Back again: `resume` has set what is this thread's. */
}

extern "C" void shim_set_order(int order) {
    thread_order = order;
}

extern "C" size_t shim_launches(void) {
    return launched;
}
