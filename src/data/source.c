#define _GNU_SOURCE
#include "source.h"

#include "../base/file.h"
#include "../base/size.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static brt_status fail_to_read(const char *path)
{
    return BRT_FAIL(BRT_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
}

static brt_status add_file(brt_sources *sources, const char *path)
{
    if (sources->count == sources->capacity) {
        size_t capacity = brt_max_size(16, 2 * sources->capacity);
        char **paths = realloc(sources->paths, capacity * sizeof *paths);
        if (!paths)
            return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the names of %zu files", capacity);
        sources->paths = paths;
        sources->capacity = capacity;
    }
    char *copy = strdup(path);
    if (!copy)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the name %s", path);
    sources->paths[sources->count++] = copy;
    return BRT_OK;
}

/* ---- directories -------------------------------------------------------------------------------------------- */

static int is_visible(const struct dirent *found)
{
    return found->d_name[0] != '.';
}

/* Not alphasort, whose order depends on the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static brt_status add_directory(brt_sources *sources, const char *path);

static brt_status add_found(brt_sources *sources, const char *path)
{
    struct stat info;
    if (lstat(path, &info) != 0)
        return fail_to_read(path);
    if (S_ISDIR(info.st_mode))
        return add_directory(sources, path);
    if (stat(path, &info) != 0)
        return fail_to_read(path);
    return S_ISREG(info.st_mode) ? add_file(sources, path) : BRT_OK;
}

static brt_status add_member(brt_sources *sources, const char *directory, const char *name)
{
    char *path = brt_path_join(directory, name);
    if (!path)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the names in %s", directory);
    brt_status status = add_found(sources, path);
    free(path);
    return status;
}

static brt_status add_directory(brt_sources *sources, const char *path)
{
    struct dirent **members;
    int count = scandir(path, &members, is_visible, by_name);
    if (count < 0)
        return fail_to_read(path);
    brt_status status = BRT_OK;
    for (int i = 0; i < count; i++) {
        if (status == BRT_OK)
            status = add_member(sources, path, members[i]->d_name);
        free(members[i]);
    }
    free(members);
    return status;
}

/* ---- arguments ---------------------------------------------------------------------------------------------- */

static brt_status add_existing(brt_sources *sources, const char *path)
{
    struct stat info;
    size_t before = sources->count;
    if (stat(path, &info) != 0)
        return fail_to_read(path);
    if (!S_ISDIR(info.st_mode))
        return add_file(sources, path);
    BRT_TRY(add_directory(sources, path));
    if (sources->count == before)
        return BRT_FAIL(BRT_ERROR_DATA, "the directory %s holds no files", path);
    return BRT_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static brt_status add_matches(brt_sources *sources, const char *pattern)
{
    glob_t matches;
    int result = glob(pattern, GLOB_NOSORT, NULL, &matches);
    if (result == GLOB_NOMATCH)
        return BRT_FAIL(BRT_ERROR_IO, "no file matches %s", pattern);
    if (result != 0)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the files that match %s", pattern);
    qsort(matches.gl_pathv, matches.gl_pathc, sizeof *matches.gl_pathv, by_text);
    brt_status status = BRT_OK;
    for (size_t i = 0; status == BRT_OK && i < matches.gl_pathc; i++)
        status = add_existing(sources, matches.gl_pathv[i]);
    globfree(&matches);
    return status;
}

brt_status brt_sources_add(brt_sources *sources, const char *argument)
{
    bool is_pattern = strpbrk(argument, "*?[") && !brt_file_exists(argument);
    return is_pattern ? add_matches(sources, argument) : add_existing(sources, argument);
}

void brt_sources_free(brt_sources *sources)
{
    for (size_t i = 0; i < sources->count; i++)
        free(sources->paths[i]);
    free(sources->paths);
    *sources = (brt_sources){0};
}
