/* Time that only goes forward. */
#ifndef BRT_BASE_CLOCK_H
#define BRT_BASE_CLOCK_H

/* Seconds since some moment, the same for the whole process. */
double brt_seconds(void);

#endif
