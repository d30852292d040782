/* Times that only go forward. */
#ifndef BRT_BASE_CLOCK_H
#define BRT_BASE_CLOCK_H

/* Seconds since some moment, the same for the whole process. */
double brt_seconds(void);
/* Seconds that the calling thread has had a processor: others' turns do not count. */
double brt_thread_seconds(void);

#endif
