/* How a training run goes, on stderr: a bar on a terminal, now and then a line elsewhere. */
#ifndef BRT_CLI_PROGRESS_H
#define BRT_CLI_PROGRESS_H

#include <brt/brt.h>

typedef struct progress {
    bool quiet, terminal;
    bool bytes;          /* tokens are bytes: bits per byte mean something */
    bool bar_is_shown;
    double shown_at;     /* when the bar or the last line was printed */
    double first_seconds; /* of training before this session's first step, and the steps done then */
    uint64_t first_step;
    bool has_first;
    double loss;         /* averaged over some steps */
} progress;

void progress_start(progress *p, bool bytes, bool quiet);
void progress_step(progress *p, const brt_run_progress *now);
/* A line of text; the bar, if any, goes below it. */
void progress_say(progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Takes the bar away. */
void progress_end(progress *p);

/* "loss 0.6931" or, for bytes, "1.0000 bits per byte": in a static buffer for the next three calls. */
const char *progress_loss(const progress *p, double loss);

#endif
