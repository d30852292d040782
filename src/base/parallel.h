/* Work cut into tasks, which write to disjoint places, or to partial sums that are then combined in task order. Where
 * results depend on the cut it depends on shapes only, never on the number of threads: they are bit-identical for any
 * thread count. Tasks run in any order, and cannot fail. */
#ifndef BRT_BASE_PARALLEL_H
#define BRT_BASE_PARALLEL_H

#include "status.h"

#include <stddef.h>

typedef void brt_task(void *context, size_t task, int thread);

/* Runs task(context, i, thread) for i in [0, tasks) on at most `threads` threads, the calling one among them; thread in
 * [0, threads). With fewer threads than asked for (the system refused some) the rest does the work. A task that calls
 * this runs the inner tasks itself. */
void brt_parallel_for(int threads, size_t tasks, brt_task *task, void *context);

/* Processors this process may use. */
int brt_processor_count(void);
/* The number of threads that an option stands for: 0 is one for each of these processors. */
brt_status brt_count_threads(int option, int *threads);

#endif
