#include "base/files.h"

#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPORARY ".tmp-"

/* Renaming would put a file in the place of a folder, a device or a pipe, as root may. What is in
 * /dev itself is left alone, links to standard streams included. */
static const char *not_replaceable(const char *path) {
    static const char devices[] = "/dev/";
    size_t length = sizeof devices - 1;
    struct stat info;
    if (strncmp(path, devices, length) == 0 && !strchr(path + length, '/'))
        return "is not a file";
    if (stat(path, &info) != 0 || S_ISREG(info.st_mode))
        return NULL;
    return S_ISDIR(info.st_mode) ? strerror(EISDIR) : "is not a file";
}

/* The temporary file; a link in its place is not followed. */
static FILE *open_temporary(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (fd >= 0 && !file) {
        int reason = errno;
        close(fd);
        unlink(path);
        errno = reason;
    }
    return file;
}

enum dml_status dml_output_open(struct dml_output *output, const char *path) {
    memset(output, 0, sizeof *output);
    const char *reason = not_replaceable(path);
    if (reason)
        return dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", path, reason);
    output->path = dml_strdup(path);
    output->temporary = dml_format("%s" TEMPORARY "%ld", path, (long)getpid());
    if (!output->path || !output->temporary) {
        dml_output_discard(output);
        return DML_ERROR_MEMORY;
    }
    output->file = open_temporary(output->temporary);
    if (!output->file) {
        dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", path, strerror(errno));
        free(output->temporary);
        output->temporary = NULL;
        dml_output_discard(output);
        return DML_ERROR_IO;
    }
    (void)!flock(fileno(output->file), LOCK_EX | LOCK_NB); /* marks it in use (dml_output_clean) */
    return DML_OK;
}

enum dml_status dml_output_commit(struct dml_output *output) {
    enum dml_status status = DML_OK;
    errno = 0;
    bool failed = ferror(output->file);
    if (failed) { /* a write that nobody checked: trying again gives the reason */
        clearerr(output->file);
        for (int i = 0; i < BUFSIZ && !ferror(output->file); i++)
            putc(0, output->file);
        fflush(output->file);
    }
    bool written = !failed && fflush(output->file) == 0 && fsync(fileno(output->file)) == 0;
    int reason = errno;
    if (fclose(output->file) != 0 && written) {
        written = false;
        reason = errno;
    }
    output->file = NULL;
    if (written && rename(output->temporary, output->path) != 0) {
        written = false;
        reason = errno;
    }
    if (!written)
        status = dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", output->path,
                          strerror(reason ? reason : EIO));
    else {
        free(output->temporary);
        output->temporary = NULL;
    }
    dml_output_discard(output);
    return status;
}

void dml_output_discard(struct dml_output *output) {
    if (output->file)
        fclose(output->file);
    if (output->temporary)
        unlink(output->temporary);
    free(output->temporary);
    free(output->path);
    memset(output, 0, sizeof *output);
}

/* Whether a file is a temporary one, for `name` or (NULL) for any file. */
static bool is_temporary(const char *file, const char *name) {
    const char *mark = NULL;
    for (const char *at = file; (at = strstr(at, TEMPORARY)); at++)
        mark = at; /* the last one */
    if (!mark || mark == file)
        return false;
    const char *number = mark + strlen(TEMPORARY);
    if (!*number || number[strspn(number, "0123456789")])
        return false;
    return !name || (strlen(name) == (size_t)(mark - file) &&
                     strncmp(file, name, (size_t)(mark - file)) == 0);
}

void dml_output_clean(const char *folder, const char *name) {
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (!is_temporary(entry->d_name, name))
            continue;
        int fd = openat(dirfd(entries), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK))
            unlinkat(dirfd(entries), entry->d_name, 0);
        if (fd >= 0)
            close(fd);
    }
    if (entries)
        closedir(entries);
}

enum dml_status dml_output_check(const char *path) {
    struct dml_output output;
    enum dml_status status = dml_output_open(&output, path);
    dml_output_discard(&output);
    return status;
}

enum dml_status dml_write_file(const char *path, const void *data, size_t size) {
    struct dml_output output;
    enum dml_status status = dml_output_open(&output, path);
    if (status)
        return status;
    fwrite(data, 1, size, output.file);
    return dml_output_commit(&output);
}

void dml_read_start(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, text, size - 1);
    text[length > 0 ? length : 0] = 0;
    if (fd >= 0)
        close(fd);
}

enum dml_status dml_read_file(const char *path, char **data, size_t *size) {
    struct dml_mapping mapping;
    enum dml_status status = dml_map_file(path, &mapping);
    if (status)
        return status;
    *data = dml_alloc(mapping.size + 1, 1);
    if (*data) {
        memcpy(*data, mapping.data, mapping.size);
        if (size)
            *size = mapping.size;
    }
    dml_unmap_file(&mapping);
    return *data ? DML_OK : DML_ERROR_MEMORY;
}

/* By its byte order mark, or without one by what Latin letters look like. */
static bool is_utf16(const char *text, size_t size) {
    if (size >= 2 && (memcmp(text, "\xFF\xFE", 2) == 0 || memcmp(text, "\xFE\xFF", 2) == 0))
        return true;
    return size >= 4 && !text[0] != !text[1] && !text[0] == !text[2] && !text[1] == !text[3];
}

enum dml_status dml_read_text(const char *path, const char *otherwise, char **text) {
    size_t size = 0;
    *text = NULL;
    enum dml_status status = dml_read_file(path, text, &size);
    if (status)
        return status;
    if (is_utf16(*text, size) || strlen(*text) != size) {
        status = dml_fail(DML_ERROR_INPUT, "%s: %s", path,
                          is_utf16(*text, size) ? "is UTF-16 text; save it as UTF-8" : otherwise);
        free(*text);
        *text = NULL;
    } else if (strncmp(*text, "\xEF\xBB\xBF", 3) == 0) {
        memmove(*text, *text + 3, size - 2);
    }
    return status;
}

enum dml_status dml_map_file(const char *path, struct dml_mapping *mapping) {
    enum dml_status status = DML_OK;
    struct stat info;
    memset(mapping, 0, sizeof *mapping);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* does not wait for a pipe */
    if (fd < 0)
        return dml_fail(DML_ERROR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &info) != 0)
        status = dml_fail(DML_ERROR_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = dml_fail(DML_ERROR_INPUT, "%s: is not a file", path);
    else if (info.st_size == 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: is empty", path);
    else {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = dml_fail(errno == ENOMEM ? DML_ERROR_MEMORY : DML_ERROR_IO,
                              "%s: cannot be mapped: %s", path, strerror(errno));
        else
            *mapping = (struct dml_mapping){data, (size_t)info.st_size};
    }
    close(fd);
    return status;
}

void dml_unmap_file(struct dml_mapping *mapping) {
    if (mapping->data)
        munmap((void *)mapping->data, mapping->size);
    memset(mapping, 0, sizeof *mapping);
}

enum dml_status dml_make_folders(const char *path) {
    char *copy = dml_strdup(path);
    if (!copy)
        return DML_ERROR_MEMORY;
    enum dml_status status = DML_OK;
    for (char *at = copy + 1; !status; at++) {
        char end = *at;
        if (end != '/' && end != 0)
            continue;
        *at = 0;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            status = dml_fail(DML_ERROR_IO, "%s: cannot be made: %s", copy, strerror(errno));
        else if (!dml_is_folder(copy))
            status = dml_fail(DML_ERROR_IO, "%s: is not a folder", copy);
        *at = end;
        if (end == 0)
            break;
    }
    free(copy);
    return status;
}

bool dml_path_exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool dml_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool dml_is_clutter(const char *name) {
    static const char *const names[] = {
        "Thumbs.db",  "desktop.ini", "$RECYCLE.BIN", "System Volume Information", /* Windows */
        "__MACOSX", /* of zip files made on macOS */
        "@eaDir",   /* Synology */
        "lost+found",
    };
    bool found = name[0] == '.'; /* "._x" are shadows of files on macOS */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        found |= strcasecmp(name, names[i]) == 0;
    return found;
}

char *dml_path_join(const char *folder, const char *name) {
    size_t length = strlen(folder);
    const char *slash = length && folder[length - 1] == '/' ? "" : "/";
    return dml_format("%s%s%s", folder, slash, name);
}
