/* A team of threads for each thread that calls, made at its first call and kept for the next ones.
 *
 * Why not OpenMP: its threads wait for work either asleep (waking them doubles the time of generating a token) or
 * spinning for milliseconds (a training run beside another program becomes 25 times slower, because waiting threads
 * keep working ones from the processors). Here a thread spins for some microseconds, the usual distance between two
 * loops, and then sleeps; where spinning was in vain it spins for less the next time. And a loop waits only for workers
 * that take part: one that has no processor yet is not waited for, the others do its tasks. */
#define _GNU_SOURCE
#include "parallel.h"

#include "clock.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    most_threads = 1024,
    most_rounds = 2000, /* of spinning: 30 to 80 microseconds */
    least_rounds = 8,
    cache_line = 64,
    open_gate = 1 << 16, /* more than there are threads */
};

typedef struct team team;

/* Tasks that a thread begins with: neighbours, and the same in every loop of as many tasks, so that it finds in its own
 * caches what it left there before (than with threads that take turns, a step in f32 takes 2 % less, a generated token
 * 5 %). Who is through with them goes on with those of the others. */
typedef struct share {
    alignas(cache_line) atomic_size_t next; /* the first task nobody has taken */
    size_t end;
} share;

typedef struct worker {
    alignas(cache_line) atomic_uint orders; /* a loop to take part in, each time it grows */
    atomic_bool asleep;
    int patience; /* rounds of spinning */
    pthread_cond_t wake;
    pthread_t thread;
    team *team;
    int index; /* from 1: the caller is thread 0 */
} worker;

struct team {
    /* The loop at hand. */
    brt_task *task;
    void *context;
    int wanted;                          /* workers: those with a higher index stay out */
    share share[most_threads];           /* of the caller and each worker */
    alignas(cache_line) atomic_int gate; /* workers in the loop, plus open_gate while more may enter */
    atomic_bool caller_asleep;
    int patience;         /* of the caller: rounds of spinning */
    atomic_bool over;     /* the team is dissolved */
    atomic_bool crowded;  /* more threads than processors: a spinning one would keep another from working */
    pthread_mutex_t lock; /* of falling asleep and waking */
    pthread_cond_t finished;
    pid_t process;        /* threads do not survive a fork */
    int processors, workers;
    worker *worker[most_threads];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t team_key; /* of the calling thread's team */
static _Thread_local bool inside_task;

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Waits that most_rounds of spinning would have met, had there been so many. */
static const double short_wait = 100e-6; /* seconds, and waking takes some of them */

static void be_patient(int *patience, bool was_short)
{
    int next = was_short ? *patience * 2 : *patience / 2;
    *patience = next > most_rounds ? most_rounds : next < least_rounds ? least_rounds : next;
}

/* ---- a worker ---------------------------------------------------------------------------------------------- */

static bool spin_for_orders(const worker *w, unsigned done)
{
    for (int round = 0; round < w->patience; round++) {
        if (atomic_load_explicit(&w->orders, memory_order_acquire) != done)
            return true;
        pause_briefly();
    }
    return false;
}

static void take_tasks(team *t, int thread)
{
    inside_task = true;
    int shares = t->wanted + 1;
    for (int i = 0; i < shares; i++) {
        share *from = &t->share[(thread + i) % shares];
        for (size_t task; (task = atomic_fetch_add_explicit(&from->next, 1, memory_order_relaxed)) < from->end;)
            t->task(t->context, task, thread);
    }
    inside_task = false;
}

/* Whoever falls asleep says so before it looks a last time, and whoever has news looks for sleepers afterwards: one of
 * the two sees the other. */
static void sleep_for_orders(worker *w, unsigned done)
{
    team *t = w->team;
    pthread_mutex_lock(&t->lock);
    atomic_store(&w->asleep, true);
    while (atomic_load(&w->orders) == done)
        pthread_cond_wait(&w->wake, &t->lock);
    atomic_store(&w->asleep, false);
    pthread_mutex_unlock(&t->lock);
}

/* Until there is an order beyond those up to `done`. */
static void await_orders(worker *w, unsigned done)
{
    double start = brt_seconds();
    if (atomic_load(&w->team->crowded) || !spin_for_orders(w, done))
        sleep_for_orders(w, done);
    be_patient(&w->patience, brt_seconds() - start < short_wait);
}

/* Into the loop at hand, which may be a later one than was ordered, or be over. What it is stands still while a worker
 * is in it. */
static bool enter(team *t)
{
    int gate = atomic_load(&t->gate);
    while (gate & open_gate)
        if (atomic_compare_exchange_weak(&t->gate, &gate, gate + 1))
            return true;
    return false;
}

/* The last one out of a closed loop has news for the caller. */
static void leave(team *t)
{
    if (atomic_fetch_sub(&t->gate, 1) == 1 && atomic_load(&t->caller_asleep)) {
        pthread_mutex_lock(&t->lock);
        pthread_cond_signal(&t->finished);
        pthread_mutex_unlock(&t->lock);
    }
}

static void *work(void *argument)
{
    worker *w = argument;
    team *t = w->team;
    unsigned orders = 0;
    for (;;) {
        await_orders(w, orders);
        orders = atomic_load(&w->orders);
        if (atomic_load(&t->over))
            return NULL;
        if (!enter(t))
            continue;
        if (w->index <= t->wanted)
            take_tasks(t, w->index);
        leave(t);
    }
}

/* ---- a team ------------------------------------------------------------------------------------------------- */

static void give_order(worker *w)
{
    atomic_fetch_add(&w->orders, 1);
    if (atomic_load(&w->asleep)) {
        pthread_mutex_lock(&w->team->lock);
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->team->lock);
    }
}

/* A new worker with every signal blocked: signals are for the program's own threads. NULL when the system refuses. */
static worker *hire(team *t)
{
    worker *w = aligned_alloc(cache_line, sizeof *w);
    if (!w)
        return NULL;
    *w = (worker){.team = t, .index = t->workers + 1, .patience = most_rounds};
    pthread_cond_init(&w->wake, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int refused = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!refused)
        return w;
    pthread_cond_destroy(&w->wake);
    free(w);
    return NULL;
}

static void dissolve(void *argument)
{
    team *t = argument;
    atomic_store(&t->over, true);
    for (int i = 0; t->process == getpid() && i < t->workers; i++) {
        give_order(t->worker[i]);
        pthread_join(t->worker[i]->thread, NULL);
        pthread_cond_destroy(&t->worker[i]->wake);
        free(t->worker[i]);
    }
    pthread_cond_destroy(&t->finished);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static void make_key(void)
{
    pthread_key_create(&team_key, dissolve);
}

/* The calling thread's team, with `workers` workers unless the system refuses; NULL without memory. */
static team *gather(int workers)
{
    pthread_once(&once, make_key);
    team *t = pthread_getspecific(team_key);
    if (!t || t->process != getpid()) { /* the child of a fork leaves the parent's team alone */
        t = aligned_alloc(cache_line, sizeof *t);
        if (!t)
            return NULL;
        *t = (team){.process = getpid(), .processors = brt_processor_count(), .patience = most_rounds};
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->finished, NULL);
        pthread_setspecific(team_key, t);
    }
    while (t->workers < workers && t->workers < most_threads && (t->worker[t->workers] = hire(t)))
        t->workers++;
    return t;
}

static bool spin_for_workers(const team *t)
{
    for (int round = 0; round < t->patience; round++) {
        if (atomic_load_explicit(&t->gate, memory_order_acquire) == 0)
            return true;
        pause_briefly();
    }
    return false;
}

static void sleep_for_workers(team *t)
{
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->caller_asleep, true);
    while (atomic_load(&t->gate) > 0)
        pthread_cond_wait(&t->finished, &t->lock);
    atomic_store(&t->caller_asleep, false);
    pthread_mutex_unlock(&t->lock);
}

static void await_workers(team *t)
{
    double start = brt_seconds();
    if (atomic_load(&t->crowded) || !spin_for_workers(t))
        sleep_for_workers(t);
    be_patient(&t->patience, brt_seconds() - start < short_wait);
}

static void run_in_team(team *t, int workers, size_t tasks, brt_task *task, void *context)
{
    t->task = task;
    t->context = context;
    t->wanted = workers;
    for (int i = 0; i <= workers; i++) {
        size_t shares = (size_t)workers + 1;
        t->share[i].end = ((size_t)i + 1) * tasks / shares;
        atomic_store_explicit(&t->share[i].next, (size_t)i * tasks / shares, memory_order_relaxed);
    }
    atomic_store(&t->crowded, workers >= t->processors);
    atomic_store(&t->gate, open_gate);
    for (int i = 0; i < workers; i++)
        give_order(t->worker[i]);
    take_tasks(t, 0);
    if (atomic_fetch_sub(&t->gate, open_gate) > open_gate)
        await_workers(t);
}

/* ---- loops ---------------------------------------------------------------------------------------------------- */

static void run_alone(size_t tasks, brt_task *task, void *context)
{
    for (size_t i = 0; i < tasks; i++)
        task(context, i, 0);
}

void brt_parallel_for(int threads, size_t tasks, brt_task *task, void *context)
{
    int wanted = tasks < (size_t)threads ? (int)tasks - 1 : threads - 1;
    team *t = wanted > 0 && !inside_task ? gather(wanted) : NULL;
    int workers = !t ? 0 : t->workers < wanted ? t->workers : wanted;
    if (workers > 0)
        run_in_team(t, workers, tasks, task, context);
    else
        run_alone(tasks, task, context);
}

int brt_processor_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

brt_status brt_count_threads(int option, int *threads)
{
    if (option < 0 || option > most_threads)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "threads is %d; it must lie between 0 (all processors) and %d", option,
                        most_threads);
    int processors = brt_processor_count();
    *threads = option ? option : processors < most_threads ? processors : most_threads;
    return BRT_OK;
}
