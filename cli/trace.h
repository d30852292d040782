/* Chained calls of a model and their results as tensors. */
#ifndef BRT_CLI_TRACE_H
#define BRT_CLI_TRACE_H

#include <brt/brt.h>

typedef struct trace_call {
    int32_t *tokens; /* [rows, time] */
    size_t time;
} trace_call;

typedef struct trace_calls {
    size_t rows, count;
    trace_call *items;
} trace_calls;

/* tokens.0, tokens.1, ... of a file. */
brt_status trace_read_calls(trace_calls *out, const char *path);
void trace_close_calls(trace_calls *calls);

/* Adds logits, memories and states after each call; with losses, the last token of each row is only a target. */
brt_status trace_forward(const brt_model *model, const trace_calls *calls, int threads, bool losses, brt_tensors *out);
/* The same with losses, and the gradient of their sum. */
brt_status trace_gradients(brt_model *model, const trace_calls *calls, int threads, brt_tensors *out);

#endif
