#include "base/level.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmake/levels.sh makes these for each of two groups, libdml-core and the rest of the library, for
 * the levels that are compiled: the pointers that the entries of all levelled functions jump
 * through, their number, and each level's functions. What is not compiled, or not in this library,
 * is NULL. */
#define MADE __attribute__((weak, visibility("hidden")))
extern void *dml_core_entries[] MADE, *dml_rest_entries[] MADE;
extern const size_t dml_core_functions MADE, dml_rest_functions MADE;
extern void *const dml_core_v2[] MADE, *const dml_core_v3[] MADE, *const dml_core_v4[] MADE;
extern void *const dml_rest_v2[] MADE, *const dml_rest_v3[] MADE, *const dml_rest_v4[] MADE;

static const struct {
    const char *name;
    void *const *core, *const *rest;
    const char *means, *openblas;
} levels[] = {
    {"x86-64-v2", dml_core_v2, dml_rest_v2, "SSE4.2 and POPCNT", "Nehalem"},
    {"x86-64-v3", dml_core_v3, dml_rest_v3, "AVX2, FMA and BMI2", "Haswell"},
    {"x86-64-v4", dml_core_v4, dml_rest_v4, "AVX-512", "SkylakeX"},
};
enum { LEVELS = sizeof levels / sizeof *levels };

static int chosen = -1, forced = -1;

static bool processor_has(int level) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (level == 0)
        return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    if (level == 1)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd");
#else
    (void)level;
    return false;
#endif
}

/* "v3" or "x86-64-v3". */
static int named(const char *wish) {
    for (int i = 0; i < LEVELS; i++)
        if (levels[i].core &&
            (!strcmp(wish, levels[i].name) || !strcmp(wish, strrchr(levels[i].name, 'v'))))
            return i;
    return -1;
}

/* Runs before every other function of the library, even those called from constructors. */
__attribute__((constructor(101))) static void choose(void) {
    const char *wish = getenv("DML_LEVEL");
    for (int i = 0; i < LEVELS; i++)
        if (levels[i].core && (chosen < 0 || processor_has(i)))
            chosen = i;
    if (wish && (forced = named(wish)) >= 0 && processor_has(forced))
        chosen = forced;
    if (chosen >= 0)
        memcpy(dml_core_entries, levels[chosen].core,
               dml_core_functions * sizeof *dml_core_entries);
    if (chosen >= 0 && levels[chosen].rest)
        memcpy(dml_rest_entries, levels[chosen].rest,
               dml_rest_functions * sizeof *dml_rest_entries);
}

const char *dml_level_name(void) {
    return chosen < 0 ? "generic" : levels[chosen].name;
}

int dml_level_forced(void) {
    return forced < 0 ? 0 : forced + 2;
}

const char *dml_level_openblas(void) {
    return forced < 0 ? NULL : levels[forced].openblas;
}

enum dml_status dml_level_check(void) {
    const char *wish = getenv("DML_LEVEL");
    if (chosen >= 0 && !processor_has(chosen))
        return dml_fail(DML_ERROR_INPUT, "this processor lacks %s (%s), which dml needs",
                        levels[chosen].name, levels[chosen].means);
    if (!wish || (forced >= 0 && forced == chosen))
        return DML_OK;
    if (forced >= 0)
        return dml_fail(DML_ERROR_INPUT, "DML_LEVEL: this processor lacks %s (%s)",
                        levels[forced].name, levels[forced].means);
    char known[64] = "";
    for (int i = 0; i < LEVELS; i++)
        if (levels[i].core)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                     *known ? ", " : "", strrchr(levels[i].name, 'v'));
    return dml_fail(DML_ERROR_INPUT, "DML_LEVEL: '%s' is not one of this program's levels (%s)",
                    wish, *known ? known : "none: its kernels were compiled once");
}
