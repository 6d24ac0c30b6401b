#include "base/lock.h"

#include "base/memory.h"
#include "base/messages.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOOKS = 5, LOOK_MICROSECONDS = 50000 };

/* What the file says: "process 4711 on host". */
struct holder {
    long pid; /* 0: unknown */
    char host[DML_HOST_SIZE];
};

const char *dml_host(char name[DML_HOST_SIZE]) {
    name[0] = name[DML_HOST_SIZE - 1] = 0;
    if (gethostname(name, DML_HOST_SIZE - 1) != 0 || !*name)
        strcpy(name, "host");
    return name;
}

static struct holder read_holder(int fd) {
    struct holder holder = {0};
    char text[DML_HOST_SIZE + 64];
    ssize_t size = pread(fd, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = 0;
    if (sscanf(text, "process %ld on %127[^\n]", &holder.pid, holder.host) != 2)
        holder = (struct holder){.host = "an unknown machine"};
    return holder;
}

static enum dml_status refuse(const char *path, const struct holder *holder, const char *advice) {
    return dml_fail(DML_ERROR_IO, "%s: held by process %ld on %s, which is at work here%s", path,
                    holder->pid, holder->host, advice);
}

/* A file system without locks: all there is to go by is what the file says. */
static enum dml_status judge(const char *path, const struct holder *holder) {
    char host[DML_HOST_SIZE];
    if (holder->pid == 0 || holder->pid == (long)getpid())
        return DML_OK;
    if (strcmp(holder->host, dml_host(host)) != 0)
        return refuse(path, holder, "; remove the file if it is not");
    bool alive = kill((pid_t)holder->pid, 0) == 0 || errno == EPERM;
    return alive ? refuse(path, holder, "") : DML_OK;
}

/* Locks an open file. *replaced: its last holder has removed the file in the meantime. */
static enum dml_status lock_file(int fd, const char *path, struct holder *before, bool *replaced) {
    struct stat own, there;
    int code = flock(fd, LOCK_EX | LOCK_NB), reason = errno;
    for (int i = 0; i < LOOKS && code != 0 && reason == EWOULDBLOCK; i++) {
        usleep(LOOK_MICROSECONDS); /* dml_lock_held takes it for a moment */
        code = flock(fd, LOCK_EX | LOCK_NB);
        reason = errno;
    }
    *before = read_holder(fd);
    *replaced = false;
    if (code != 0 && reason == EWOULDBLOCK)
        return refuse(path, before, "");
    if (code != 0)
        return judge(path, before);
    *replaced = fstat(fd, &own) != 0 || stat(path, &there) != 0 || own.st_ino != there.st_ino;
    return DML_OK;
}

static enum dml_status write_holder(int fd, const char *path) {
    char host[DML_HOST_SIZE], text[DML_HOST_SIZE + 64];
    int size = snprintf(text, sizeof text, "process %ld on %s\n", (long)getpid(), dml_host(host));
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)size, 0) == size)
        return DML_OK;
    return dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", path, strerror(errno));
}

enum dml_status dml_lock_take(const char *path, struct dml_lock *out) {
    *out = (struct dml_lock){.fd = -1, .path = dml_strdup(path)};
    enum dml_status status = out->path ? DML_OK : DML_ERROR_MEMORY;
    struct holder before = {0};
    for (bool replaced = true; !status && replaced;) {
        out->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
        if (out->fd < 0)
            status = dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", path, strerror(errno));
        else
            status = lock_file(out->fd, path, &before, &replaced);
        if (out->fd >= 0 && (status || replaced)) {
            close(out->fd);
            out->fd = -1;
        }
    }
    if (!status && before.pid)
        dml_warn("%s: process %ld on %s is gone; its lock is taken over", path, before.pid,
                 before.host);
    if (!status && (status = write_holder(out->fd, path)))
        dml_lock_release(out);
    if (status) {
        free(out->path);
        *out = (struct dml_lock){.fd = -1};
    }
    return status;
}

void dml_lock_release(struct dml_lock *lock) {
    if (lock->path && lock->fd >= 0) {
        unlink(lock->path); /* while it is held: whoever has opened it since sees it replaced */
        close(lock->fd);
    }
    free(lock->path);
    *lock = (struct dml_lock){.fd = -1};
}

bool dml_lock_held(const char *path, bool *unsure) {
    /* neither waits for a pipe nor follows a link */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    *unsure = fd < 0 && errno != ENOENT && errno != ENOTDIR;
    if (fd < 0)
        return false;
    bool held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    *unsure = held && errno != EWOULDBLOCK;
    close(fd);
    return held && !*unsure;
}
