/* Files: mapped for reading, written beside and renamed. */
#ifndef BRT_BASE_FILE_H
#define BRT_BASE_FILE_H

#include "status.h"

typedef struct brt_mapping {
    const unsigned char *data;
    size_t size;
} brt_mapping;

/* Maps a regular file read-only. An empty file gives data NULL, size 0. */
brt_status brt_file_map(brt_mapping *out, const char *path);
void brt_file_unmap(brt_mapping *mapping);

/* A file that appears whole or not at all: written to a temporary name in the same directory, synced, renamed over
 * `path`, the directory synced. Without a commit nothing changes. */
typedef struct brt_writer brt_writer;
brt_status brt_writer_open(brt_writer **out, const char *path);
brt_status brt_writer_write(brt_writer *writer, const void *data, size_t size);
/* Renames into place and frees the writer, also on failure. */
brt_status brt_writer_commit(brt_writer *writer);
/* Removes what was written. Takes NULL. */
void brt_writer_abandon(brt_writer *writer);

brt_status brt_file_replace(const char *path, const void *data, size_t size);
/* mkdir -p */
brt_status brt_make_directory(const char *path);
/* "dir/name" in a fresh buffer, NULL when out of memory. */
char *brt_path_join(const char *directory, const char *name);
bool brt_file_exists(const char *path);

/* Takes a directory for this process alone: until the descriptor is closed, or the process ends in whatever way. Where
 * the file system has no locks nothing is taken. */
brt_status brt_directory_lock(int *descriptor, const char *path);
/* Removes what writers of directory/name left when their process was killed. Nobody may be writing it. */
void brt_remove_leftovers(const char *directory, const char *name);

#endif
