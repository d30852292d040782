/* One block of memory for a step's tensors, and the book-keeping of which parts are in use (first fit, neighbours
 * merged). The same sequence of calls gives the same offsets, so a run without memory ("planning") tells exactly
 * what a real one needs: after that nothing in a step can run out of memory. */
#ifndef BRT_TENSOR_WORKSPACE_H
#define BRT_TENSOR_WORKSPACE_H

#include "../base/status.h"

typedef struct brt_workspace brt_workspace;

/* A workspace without memory: allocations return NULL and are counted. */
brt_status brt_workspace_plan(brt_workspace **out);
/* Forgets every allocation and gives the workspace the memory its plan's peak asked for: huge pages where the
 * system has them, touched once. */
brt_status brt_workspace_commit(brt_workspace *workspace);
void brt_workspace_close(brt_workspace *workspace);

#define BRT_WORKSPACE_NONE ((size_t)-1)
/* Offset of `bytes` bytes, 64-byte aligned; BRT_WORKSPACE_NONE when the committed size is exceeded or the
 * book-keeping ran out of memory. */
size_t brt_workspace_take(brt_workspace *workspace, size_t bytes);
void brt_workspace_give(brt_workspace *workspace, size_t offset);
/* NULL while planning. */
void *brt_workspace_at(const brt_workspace *workspace, size_t offset);
size_t brt_workspace_peak(const brt_workspace *workspace);
bool brt_workspace_is_planning(const brt_workspace *workspace);

#endif
