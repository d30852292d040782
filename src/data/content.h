/* The bytes of one file of data: mapped, or in memory where it was compressed or small. */
#ifndef BRT_DATA_CONTENT_H
#define BRT_DATA_CONTENT_H

#include "../base/file.h"

typedef struct brt_content {
    const unsigned char *data;
    size_t size;
    brt_mapping mapping;
    unsigned char *owned;
} brt_content;

brt_status brt_content_load(brt_content *out, const char *path);
void brt_content_free(brt_content *content);

#endif
