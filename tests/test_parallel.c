/* Loops on several threads: every task runs once, on a thread with a number of its own. */
#define _GNU_SOURCE
#include "base/parallel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

enum { most_tasks = 1000, most_threads = 9 };

typedef struct tally {
    atomic_int runs[most_tasks];
    atomic_int busy[most_threads]; /* tasks that the thread of this number is in */
    atomic_bool shared;            /* two tasks at once on one thread, or a number too large */
    int threads;
} tally;

static void count_task(void *context, size_t task, int thread)
{
    tally *t = context;
    bool out_of_range = thread < 0 || thread >= t->threads;
    if (out_of_range || atomic_fetch_add(&t->busy[thread], 1) != 0)
        atomic_store(&t->shared, true);
    atomic_fetch_add(&t->runs[task], 1);
    if (!out_of_range)
        atomic_fetch_sub(&t->busy[thread], 1);
}

static bool each_runs_once(int threads, size_t tasks)
{
    tally t = {.threads = threads < 1 ? 1 : threads};
    brt_parallel_for(threads, tasks, count_task, &t);
    for (size_t i = 0; i < most_tasks; i++)
        if (atomic_load(&t.runs[i]) != (i < tasks))
            return false;
    return !atomic_load(&t.shared);
}

static void every_task_runs_once(void **state)
{
    static const size_t tasks[] = {0, 1, 2, 3, 7, 64, most_tasks};
    (void)state;
    for (int round = 0; round < 50; round++)
        for (int threads = 0; threads <= most_threads; threads++)
            for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++)
                assert_true(each_runs_once(threads, tasks[i]));
}

/* Long enough apart for the threads to fall asleep in between. */
static void a_sleeping_team_wakes(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        usleep(2000);
        assert_true(each_runs_once(3, 10));
    }
}

typedef struct nest {
    tally inner[4];
} nest;

static void outer_task(void *context, size_t task, int thread)
{
    nest *n = context;
    (void)thread;
    n->inner[task].threads = 1;
    brt_parallel_for(3, 20, count_task, &n->inner[task]);
}

static void a_loop_in_a_task_runs_on_its_thread(void **state)
{
    static nest n;
    (void)state;
    brt_parallel_for(2, 4, outer_task, &n);
    for (size_t task = 0; task < 4; task++) {
        assert_false(atomic_load(&n.inner[task].shared));
        for (size_t i = 0; i < 20; i++)
            assert_int_equal(atomic_load(&n.inner[task].runs[i]), 1);
    }
}

static void *loop_often(void *failed)
{
    for (int round = 0; round < 200; round++)
        if (!each_runs_once(1 + round % 4, 17))
            atomic_store((atomic_bool *)failed, true);
    return NULL;
}

static void callers_have_teams_of_their_own(void **state)
{
    enum { callers = 4 };
    pthread_t thread[callers];
    atomic_bool failed = false;
    (void)state;
    for (int i = 0; i < callers; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, loop_often, &failed), 0);
    for (int i = 0; i < callers; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_false(atomic_load(&failed));
}

/* Threads do not survive a fork; the child makes its own. */
static void the_child_of_a_fork_has_a_team(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); /* which does not support threads after a fork */
#endif
    assert_true(each_runs_once(3, 50));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(each_runs_once(3, 50) ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(each_runs_once(3, 50));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once),
        cmocka_unit_test(a_sleeping_team_wakes),
        cmocka_unit_test(a_loop_in_a_task_runs_on_its_thread),
        cmocka_unit_test(callers_have_teams_of_their_own),
        cmocka_unit_test(the_child_of_a_fork_has_a_team),
    };
    return cmocka_run_group_tests_name("parallel", tests, NULL, NULL);
}
