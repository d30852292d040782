#define _GNU_SOURCE
#include "parallel.h"

#include <omp.h>
#include <sched.h>

static void run_serially(size_t tasks, brt_task *task, void *context)
{
    for (size_t i = 0; i < tasks; i++)
        task(context, i, 0);
}

static void run_in_team(int threads, size_t tasks, brt_task *task, void *context)
{
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (size_t i = 0; i < tasks; i++)
        task(context, i, omp_get_thread_num());
}

void brt_parallel_for(int threads, size_t tasks, brt_task *task, void *context)
{
    /* A library called by a task (oneDNN) must not start threads of its own: how it would cut the work depends on
     * their number, and results would too. */
    int outside = omp_get_max_threads();
    omp_set_num_threads(1);
    if (threads <= 1 || tasks <= 1)
        run_serially(tasks, task, context);
    else
        run_in_team(threads, tasks, task, context);
    omp_set_num_threads(outside);
}

int brt_processor_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
    return omp_get_num_procs();
}
