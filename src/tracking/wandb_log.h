#ifndef DML_TRACKING_WANDB_LOG_H
#define DML_TRACKING_WANDB_LOG_H

#include "dml/error.h"

#include <stddef.h>
#include <sys/types.h>

/* The record log of W&B's client (run-ID.wandb): LevelDB's log format after a header of 7 bytes.
 * The file is cut into blocks of 32 KiB; a record that does not fit into what is left of a block
 * continues in the next. Each piece has CRC-32, length and kind before it. */
enum { DML_WANDB_BLOCK = 32768 };

struct dml_wandb_log {
    int fd;
    char *path;
    off_t size;
};

/* Makes the file, which must not exist yet, and writes its header. */
enum dml_status dml_wandb_log_open(struct dml_wandb_log *log, const char *path);

/* Opens an existing one, cut to its first `size` bytes, to continue it. DML_ERROR_INPUT: it is
 * shorter. */
enum dml_status dml_wandb_log_take_up(struct dml_wandb_log *log, const char *path, off_t size);

/* Makes what was appended survive a loss of power. */
enum dml_status dml_wandb_log_sync(struct dml_wandb_log *log);

/* Appends one record in a single write, so that a killed process leaves whole records. A record
 * that the disk has no room for is taken back whole. */
enum dml_status dml_wandb_log_add(struct dml_wandb_log *log, const void *record, size_t size);
void dml_wandb_log_close(struct dml_wandb_log *log);

#endif
