#include "tracking/tracking.h"

#include <stdlib.h>
#include <string.h>

/* "--wandb_key", or an abbreviation that no other flag begins with. */
static bool is_key_flag(const char *argument, const char **value) {
    size_t length = strcspn(argument, "=");
    if (length < strlen("--wan") || length > strlen("--wandb_key") ||
        strncmp(argument, "--wandb_key", length) != 0)
        return false;
    *value = argument[length] == '=' ? argument + length + 1 : NULL;
    return true;
}

static enum dml_status keep(const char *key) {
    /* The study's default, which its users leave in their scripts. */
    if (key[0] == 0 || key[0] == '<')
        return DML_OK;
    return setenv("WANDB_API_KEY", key, 1) == 0
               ? DML_OK
               : dml_fail(DML_ERROR_MEMORY, "--wandb_key: out of memory");
}

/* Overwrites an argument where the process list reads it; explicit_bzero is not optimised away. */
static void wipe(char *argument) {
    explicit_bzero(argument, strlen(argument));
}

enum dml_status dml_tracking_take_key(int *argc, char **argv) {
    int kept = 0;
    enum dml_status status = DML_OK;
    for (int i = 0; i < *argc; i++) {
        const char *value;
        if (i == 0 || !is_key_flag(argv[i], &value)) {
            argv[kept++] = argv[i];
            continue;
        }
        if (!value && (i + 1 == *argc || strncmp(argv[i + 1], "--", 2) == 0))
            status = dml_fail(DML_ERROR_USAGE, "--wandb_key: a value is missing");
        else if (!status)
            status = keep(value ? value : argv[i + 1]);
        bool separate = !value && i + 1 < *argc && strncmp(argv[i + 1], "--", 2) != 0;
        wipe(argv[i]);
        if (separate)
            wipe(argv[++i]);
    }
    *argc = kept;
    argv[kept] = NULL;
    return status;
}
