/* Which files a data set is made of. */
#ifndef BRT_DATA_SOURCE_H
#define BRT_DATA_SOURCE_H

#include "../base/status.h"

typedef struct brt_sources {
    char **paths;
    size_t count, capacity;
} brt_sources;

/* Appends what `argument` names: a file; every file in depth below a directory, in the byte order of the names; or
 * what a glob pattern matches, likewise. Hidden entries of directories are left out; links in them are followed to
 * files, not to directories, so a loop cannot arise. Naming nothing is an error. */
brt_status brt_sources_add(brt_sources *sources, const char *argument);
void brt_sources_free(brt_sources *sources);

#endif
