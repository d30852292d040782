/* Chained calls of a model and their results as tensors. */
#ifndef BRT_CLI_TRACE_H
#define BRT_CLI_TRACE_H

#include <brt/brt.h>

typedef struct trace_call {
    int32_t *tokens; /* [rows, time] */
    size_t time;
    bool *starts;    /* [rows]: the row starts a document here; NULL: none does */
} trace_call;

typedef struct trace_calls {
    size_t rows, count;
    size_t used; /* tensors of the file */
    trace_call *items;
} trace_calls;

/* tokens.0, tokens.1, ... of a file, with start_of_sequence.K where it has one. */
brt_status trace_read_calls(trace_calls *out, const char *path);
void trace_close_calls(trace_calls *calls);

/* Adds logits, memories and states after each call; with losses, the last token of each row is only a target, and in
 * the paper's arithmetic it is an input without a target. */
brt_status trace_forward(const brt_model *model, const trace_calls *calls, int threads, bool losses, brt_tensors *out);
/* The same with losses, and the gradient of their sum, or of the loss of one call only. */
enum { TRACE_ALL_CALLS = -1 };
brt_status trace_gradients(brt_model *model, const trace_calls *calls, int threads, int only, brt_tensors *out);

#endif
