#define _GNU_SOURCE
#include "file.h"

#include "size.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_retrying(const char *path, int flags)
{
    int descriptor;
    do
        descriptor = open(path, flags | O_CLOEXEC, 0666);
    while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

static brt_status map_descriptor(brt_mapping *out, int descriptor, const char *path)
{
    struct stat info;
    if (fstat(descriptor, &info) != 0)
        return BRT_FAIL(BRT_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return BRT_FAIL(BRT_ERROR_IO, "%s is a %s; a regular file was expected", path,
                        S_ISDIR(info.st_mode) ? "directory" : "device, pipe or socket");
    if (info.st_size == 0)
        return BRT_OK;
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data == MAP_FAILED)
        return BRT_FAIL(BRT_ERROR_IO, "cannot map %s (%lld bytes): %s", path, (long long)info.st_size, strerror(errno));
    *out = (brt_mapping){data, (size_t)info.st_size};
    return BRT_OK;
}

brt_status brt_file_map(brt_mapping *out, const char *path)
{
    *out = (brt_mapping){0};
    int descriptor = open_retrying(path, O_RDONLY | O_NONBLOCK); /* a pipe is refused, not waited for */
    if (descriptor < 0)
        return BRT_FAIL(BRT_ERROR_IO, "cannot open %s: %s", path, strerror(errno));
    brt_status status = map_descriptor(out, descriptor, path);
    close(descriptor);
    return status;
}

void brt_file_unmap(brt_mapping *mapping)
{
    if (mapping->data)
        munmap((void *)mapping->data, mapping->size);
    *mapping = (brt_mapping){0};
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

struct brt_writer {
    char *path, *temporary;
    int descriptor; /* -1 once closed */
    uint64_t written;
};

enum { most_attempts = 100, most_bytes_per_write = 1 << 30 };

static bool is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static void free_writer(brt_writer *writer)
{
    if (writer->descriptor >= 0)
        close(writer->descriptor);
    free(writer->path);
    free(writer->temporary);
    free(writer);
}

/* The process number keeps processes apart; the attempt keeps apart the threads of one, and passes by what a killed
 * process of the same number left behind. */
static brt_status create_beside(brt_writer *writer)
{
    size_t size = strlen(writer->path) + sizeof ".-9223372036854775808-100.tmp";
    writer->temporary = malloc(size);
    if (!writer->temporary)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for writing %s", writer->path);
    for (int attempt = 0; attempt < most_attempts; attempt++) {
        snprintf(writer->temporary, size, "%s.%ld-%d.tmp", writer->path, (long)getpid(), attempt);
        writer->descriptor = open_retrying(writer->temporary, O_WRONLY | O_CREAT | O_EXCL);
        if (writer->descriptor >= 0)
            return BRT_OK;
        if (errno != EEXIST)
            break;
    }
    return BRT_FAIL(BRT_ERROR_IO, "cannot write %s: creating %s: %s", writer->path, writer->temporary, strerror(errno));
}

brt_status brt_writer_open(brt_writer **out, const char *path)
{
    *out = NULL;
    if (is_directory(path))
        return BRT_FAIL(BRT_ERROR_IO, "cannot write %s: it is a directory", path);
    brt_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for writing %s", path);
    writer->descriptor = -1;
    writer->path = strdup(path);
    brt_status status =
        writer->path ? create_beside(writer) : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for writing %s", path);
    if (status != BRT_OK) {
        free_writer(writer);
        return status;
    }
    *out = writer;
    return BRT_OK;
}

static brt_status fail_to_write(const brt_writer *writer, const char *action)
{
    return BRT_FAIL(BRT_ERROR_IO, "cannot write %s: %s after %llu bytes: %s; the file is left as it was", writer->path,
                    action, (unsigned long long)writer->written, strerror(errno));
}

brt_status brt_writer_write(brt_writer *writer, const void *data, size_t size)
{
    const char *rest = data;
    while (size > 0) {
        ssize_t done = write(writer->descriptor, rest, brt_min_size(size, most_bytes_per_write));
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_to_write(writer, "writing");
        rest += done;
        size -= (size_t)done;
        writer->written += (uint64_t)done;
    }
    return BRT_OK;
}

static int sync_retrying(int descriptor)
{
    int result;
    do
        result = fsync(descriptor);
    while (result != 0 && errno == EINTR);
    return result;
}

/* Without this a power failure can undo the renaming. A directory that may not be read, or a file system that cannot
 * sync one, is no reason to fail: the file is there. */
static brt_status sync_directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    if (!directory)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for writing %s", path);
    int descriptor = open_retrying(directory, O_RDONLY | O_DIRECTORY);
    free(directory);
    if (descriptor < 0)
        return BRT_OK;
    bool lost = sync_retrying(descriptor) != 0 && errno != EINVAL && errno != ENOTSUP;
    brt_status status =
        lost ? BRT_FAIL(BRT_ERROR_IO, "cannot sync the directory of %s: %s", path, strerror(errno)) : BRT_OK;
    close(descriptor);
    return status;
}

static brt_status move_into_place(brt_writer *writer)
{
    if (sync_retrying(writer->descriptor) != 0)
        return fail_to_write(writer, "syncing");
    int closed = close(writer->descriptor);
    writer->descriptor = -1;
    /* Linux closes also when interrupted; a second close could hit another thread's descriptor. */
    if (closed != 0 && errno != EINTR)
        return fail_to_write(writer, "closing");
    if (rename(writer->temporary, writer->path) != 0)
        return fail_to_write(writer, "renaming");
    return BRT_OK;
}

brt_status brt_writer_commit(brt_writer *writer)
{
    brt_status status = move_into_place(writer);
    if (status != BRT_OK) {
        brt_writer_abandon(writer);
        return status;
    }
    status = sync_directory_of(writer->path);
    free_writer(writer);
    return status;
}

void brt_writer_abandon(brt_writer *writer)
{
    if (!writer)
        return;
    unlink(writer->temporary);
    free_writer(writer);
}

brt_status brt_file_replace(const char *path, const void *data, size_t size)
{
    brt_writer *writer;
    BRT_TRY(brt_writer_open(&writer, path));
    brt_status status = brt_writer_write(writer, data, size);
    if (status == BRT_OK)
        return brt_writer_commit(writer);
    brt_writer_abandon(writer);
    return status;
}

/* ---- directories and paths ---------------------------------------------------------------------------------- */

/* `part` is the whole path or a directory above it. */
static brt_status make_one(const char *part, const char *path)
{
    if (mkdir(part, 0777) == 0)
        return BRT_OK;
    int reason = errno;
    if (is_directory(part)) /* whatever mkdir said: a read-only parent is no obstacle when it is there already */
        return BRT_OK;
    return BRT_FAIL(BRT_ERROR_IO, "cannot make the directory %s: %s", path,
                    strerror(reason == EEXIST ? ENOTDIR : reason));
}

brt_status brt_make_directory(const char *path)
{
    char *part = strdup(path);
    if (!part)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for making the directory %s", path);
    brt_status status = BRT_OK;
    for (char *at = part + strspn(part, "/"); status == BRT_OK && (at = strchr(at, '/')); at += strspn(at, "/")) {
        *at = '\0';
        status = make_one(part, path);
        *at = '/';
    }
    if (status == BRT_OK)
        status = make_one(part, path);
    free(part);
    return status;
}

char *brt_path_join(const char *directory, const char *name)
{
    size_t length = strlen(directory), size = length + strlen(name) + 2;
    bool separated = length == 0 || directory[length - 1] == '/';
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s%s%s", directory, separated ? "" : "/", name);
    return path;
}

bool brt_file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

/* ---- a directory of one's own -------------------------------------------------------------------------------- */

brt_status brt_directory_lock(int *descriptor, const char *path)
{
    *descriptor = open_retrying(path, O_RDONLY | O_DIRECTORY);
    if (*descriptor < 0)
        return BRT_FAIL(BRT_ERROR_IO, "cannot open the directory %s: %s", path, strerror(errno));
    if (flock(*descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return BRT_OK;
    close(*descriptor);
    *descriptor = -1;
    return BRT_FAIL(BRT_ERROR_IO, "%s is in use: another process is writing a run there", path);
}

static bool is_temporary_of(const char *found, const char *name)
{
    size_t length = strlen(name);
    long process;
    int attempt, end = 0;
    return strncmp(found, name, length) == 0 &&
           sscanf(found + length, ".%ld-%d.tmp%n", &process, &attempt, &end) == 2 && end > 0 &&
           found[length + (size_t)end] == '\0';
}

void brt_remove_leftovers(const char *directory, const char *name)
{
    DIR *members = opendir(directory);
    if (!members)
        return;
    for (const struct dirent *member; (member = readdir(members)) != NULL;)
        if (is_temporary_of(member->d_name, name))
            unlinkat(dirfd(members), member->d_name, 0);
    closedir(members);
}
