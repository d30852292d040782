#include "workspace.h"

#include "../base/memory.h"
#include "../base/size.h"

#include <stdlib.h>
#include <string.h>

enum { alignment = 64, granule = 2 << 20 /* of the whole: a large page */ };

/* A stretch of the workspace; stretches lie side by side and cover it up to the end of the last one. */
typedef struct stretch {
    size_t offset, size;
    bool used;
} stretch;

struct brt_workspace {
    unsigned char *memory;
    size_t taken;    /* bytes of `memory` */
    size_t limit;    /* offsets end here: unbounded while planning */
    size_t peak;
    stretch *stretches; /* sorted by offset */
    size_t count, capacity;
    size_t full; /* so many from the start are all used: recording a long segment only adds at the end */
};

brt_status brt_workspace_plan(brt_workspace **out)
{
    brt_workspace *workspace = calloc(1, sizeof *workspace);
    if (!workspace)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a workspace");
    workspace->limit = SIZE_MAX / 2;
    *out = workspace;
    return BRT_OK;
}

brt_status brt_workspace_commit(brt_workspace *workspace)
{
    size_t size = brt_ceil_div(brt_max_size(workspace->peak, 1), granule) * granule;
    workspace->memory = brt_pages_take(size);
    if (!workspace->memory)
        return BRT_FAIL(BRT_ERROR_MEMORY, "the system refused %zu bytes of working memory", size);
    workspace->taken = workspace->limit = size;
    workspace->count = workspace->full = 0;
    return BRT_OK;
}

void brt_workspace_close(brt_workspace *workspace)
{
    if (!workspace)
        return;
    brt_pages_give(workspace->memory, workspace->taken);
    free(workspace->stretches);
    free(workspace);
}

/* Makes room for one more stretch at `index`. */
static bool insert(brt_workspace *workspace, size_t index, stretch value)
{
    if (workspace->count == workspace->capacity) {
        size_t capacity = workspace->capacity ? 2 * workspace->capacity : 64;
        stretch *grown = realloc(workspace->stretches, capacity * sizeof *grown);
        if (!grown)
            return false;
        workspace->stretches = grown;
        workspace->capacity = capacity;
    }
    stretch *at = workspace->stretches + index;
    memmove(at + 1, at, (workspace->count - index) * sizeof *at);
    *at = value;
    workspace->count++;
    return true;
}

static void remove_at(brt_workspace *workspace, size_t index)
{
    stretch *at = workspace->stretches + index;
    workspace->count--;
    memmove(at, at + 1, (workspace->count - index) * sizeof *at);
}

static size_t end_of(const brt_workspace *workspace)
{
    if (workspace->count == 0)
        return 0;
    const stretch *last = &workspace->stretches[workspace->count - 1];
    return last->offset + last->size;
}

/* Takes the front of a free stretch. */
static size_t take_from(brt_workspace *workspace, size_t index, size_t size)
{
    stretch *hole = &workspace->stretches[index];
    size_t offset = hole->offset;
    if (hole->size > size) {
        stretch rest = {offset + size, hole->size - size, false};
        if (!insert(workspace, index + 1, rest))
            return BRT_WORKSPACE_NONE;
        hole = &workspace->stretches[index];
        hole->size = size;
    }
    hole->used = true;
    return offset;
}

size_t brt_workspace_take(brt_workspace *workspace, size_t bytes)
{
    size_t size = brt_ceil_div(brt_max_size(bytes, 1), alignment) * alignment;
    while (workspace->full < workspace->count && workspace->stretches[workspace->full].used)
        workspace->full++;
    for (size_t i = workspace->full; i < workspace->count; i++)
        if (!workspace->stretches[i].used && workspace->stretches[i].size >= size)
            return take_from(workspace, i, size);
    size_t offset = end_of(workspace);
    if (size > workspace->limit - offset)
        return BRT_WORKSPACE_NONE;
    if (!insert(workspace, workspace->count, (stretch){offset, size, true}))
        return BRT_WORKSPACE_NONE;
    workspace->peak = brt_max_size(workspace->peak, offset + size);
    return offset;
}

static size_t find(const brt_workspace *workspace, size_t offset)
{
    size_t low = 0, high = workspace->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (workspace->stretches[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void brt_workspace_give(brt_workspace *workspace, size_t offset)
{
    size_t index = find(workspace, offset);
    stretch *stretches = workspace->stretches;
    stretches[index].used = false;
    if (index + 1 < workspace->count && !stretches[index + 1].used) {
        stretches[index].size += stretches[index + 1].size;
        remove_at(workspace, index + 1);
    }
    if (index > 0 && !stretches[index - 1].used) {
        stretches[index - 1].size += stretches[index].size;
        remove_at(workspace, index);
        index--;
    }
    workspace->full = brt_min_size(workspace->full, index);
    /* The end of the workspace is where the last used stretch ends. */
    if (index + 1 == workspace->count)
        remove_at(workspace, index);
}

void *brt_workspace_at(const brt_workspace *workspace, size_t offset)
{
    return workspace->memory ? workspace->memory + offset : NULL;
}

size_t brt_workspace_peak(const brt_workspace *workspace)
{
    return workspace->peak;
}

bool brt_workspace_is_planning(const brt_workspace *workspace)
{
    return workspace->memory == NULL;
}
