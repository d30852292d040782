/* Tensors and the tape. An operation (src/ops) makes a node: it takes tensors for its outputs, runs forward at once,
 * and, when the tape records, stays on it until brt_tape_backward walks back, or is forgotten at once (inference).
 *
 * Errors: a tape keeps the first failure; after it operations still return tensors of the right shape but compute
 * nothing. Model code thus reads as its formula and asks brt_tape_status once at the end. */
#ifndef BRT_TENSOR_TAPE_H
#define BRT_TENSOR_TAPE_H

#include "../base/real.h"
#include "../base/status.h"
#include "../kernels/kernels.h"
#include "workspace.h"

enum { BRT_MAX_DIMS = 5, BRT_MAX_INPUTS = 6, BRT_MAX_OUTPUTS = 4 };

typedef struct brt_tensor {
    real *data;     /* row-major, contiguous; NULL while planning */
    real *gradient; /* the sum of what consumers have contributed so far; NULL before the first */
    size_t dims, shape[BRT_MAX_DIMS];
    size_t count;
    size_t unused;  /* rows at the end that hold nothing: where only chosen tokens are kept (conditional.h) */
    bool wants_gradient;
    bool has_gradient;   /* something was contributed */
    unsigned producers;  /* nodes that write (a part of) it; freed when backward has passed the last */
    struct brt_node *maker; /* the last recorded one of them */
    bool forgotten;         /* its memory was given back: maker computes it again for backward */
    bool rounded;           /* its memory holds bf16 and `data` is NULL, until backward reads it */
    bool reaches_loss;      /* known when backward begins */
    size_t data_offset, gradient_offset; /* in the workspace; BRT_WORKSPACE_NONE when elsewhere */
} brt_tensor;

typedef struct brt_tape brt_tape;
typedef struct brt_node brt_node;

/* What an operation is. `forward` runs only when there is memory, never while planning, and takes no memory: its
 * builder took the outputs (and scratch) before. `backward` is called while planning, too, because it opens gradients
 * and scratch; it makes these calls always, and computes only if brt_tape_running. Both may use brt_parallel_for;
 * neither can fail. */
typedef struct brt_op {
    const char *name;
    void (*forward)(brt_tape *tape, brt_node *node);
    void (*backward)(brt_tape *tape, brt_node *node);
    bool repeatable;      /* forward takes no scratch and is cheap: its outputs can be forgotten */
    bool starts_backward; /* a loss: its backward runs although nobody contributed to its output's gradient */
} brt_op;

struct brt_node {
    const brt_op *op;
    brt_tensor *in[BRT_MAX_INPUTS];   /* NULL where an optional input is absent */
    brt_tensor *out[BRT_MAX_OUTPUTS]; /* out[0] first; others may be saved values for backward */
    void *attributes;                 /* a copy of the operation's own struct */
    size_t flops;                     /* of forward, matrix products only */
    size_t backward_flops;
};

/* Where a step's time goes, by operation. */
typedef struct brt_op_time {
    const char *name; /* the operation's */
    uint64_t calls;   /* forward */
    double forward_seconds, backward_seconds;
    double flops, backward_flops;
} brt_op_time;

brt_status brt_tape_create(brt_tape **out, const brt_kernels *kernels, int threads);
void brt_tape_close(brt_tape *tape);

const brt_kernels *brt_tape_kernels(const brt_tape *tape);
int brt_tape_threads(const brt_tape *tape);
/* No memory yet: every operation only takes its place. Operations must run the same calls either way. */
bool brt_tape_is_planning(const brt_tape *tape);
/* There is memory and nothing has failed: a backward function may compute. */
bool brt_tape_running(const brt_tape *tape);
/* After one planned round: allocates the peak, and forgets the round. */
brt_status brt_tape_commit(brt_tape *tape);
/* Bytes of the planned peak, or of the memory held. */
size_t brt_tape_bytes(const brt_tape *tape);
bool brt_tape_recording(const brt_tape *tape);
void brt_tape_record(brt_tape *tape, bool on);
/* Products with weights in bf16 from now on; before any planning. */
void brt_tape_use_bf16(brt_tape *tape);
bool brt_tape_has_bf16(const brt_tape *tape);
/* Takes the time of every operation from now on. */
void brt_tape_take_times(brt_tape *tape);
/* The operations so far; *count of them. The tape's own. */
const brt_op_time *brt_tape_times(const brt_tape *tape, size_t *count);
brt_status brt_tape_status(const brt_tape *tape);
void brt_tape_fail(brt_tape *tape, brt_status status); /* keeps the first; the sentence is brt_last_error's */

/* A tensor in the workspace. wants_gradient is set by brt_tape_push from the inputs. */
brt_tensor *brt_tape_tensor(brt_tape *tape, size_t dims, const size_t *shape);
#define BRT_SHAPE(...) (sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t)), (const size_t[]){__VA_ARGS__}
/* A tensor of memory owned elsewhere (parameters, carried states): never freed here, gradient only if given. */
brt_tensor *brt_tape_external(brt_tape *tape, real *data, real *gradient, size_t dims, const size_t *shape);

/* The tensor's numbers, which no gradient passes. Lives as long as the tensor; NULL stays NULL. */
brt_tensor *brt_tape_constant(brt_tape *tape, const brt_tensor *tensor);

/* Completes a node (op, in, out, attributes are copied), runs it, keeps it if recording and any input wants a
 * gradient. */
void brt_tape_push(brt_tape *tape, const brt_node *node, size_t attribute_bytes);

/* Gives back the memory of a tensor that forward does not read again, if one repeatable operation made it: a backward
 * pass that reads it has the operation compute it again. Nothing happens otherwise, and where nothing is recorded. */
void brt_tape_forget(brt_tape *tape, brt_tensor *tensor);

/* On a tape that uses bf16, keeps what was recorded of a tensor in half the memory, rounded, until a backward pass
 * reads it. For tensors that forward does not read again. Nothing happens otherwise. */
void brt_tape_round(brt_tape *tape, brt_tensor *tensor);

/* Frees everything made so far: for inference, layer by layer. Not while recording. */
void brt_tape_rewind(brt_tape *tape);

/* Runs every recorded node's backward in reverse, freeing memory as it goes, then empties the tape. Outputs that no
 * loss depends on, as what a segment leaves to the next, are freed first. */
void brt_tape_backward(brt_tape *tape);
/* Empties the tape without a backward pass. */
void brt_tape_reset(brt_tape *tape);

/* For backward functions; while planning all return NULL and keep the books. */
/* A buffer to OVERWRITE with this consumer's contribution to d(loss)/d(tensor); data is NULL if the tensor wants
 * none. The first consumer gets the tensor's gradient itself, later ones memory aside that closing adds to it. */
typedef struct brt_gradient {
    real *data;
    brt_tensor *aside;
} brt_gradient;
brt_gradient brt_gradient_open(brt_tape *tape, brt_tensor *tensor);
void brt_gradient_close(brt_tape *tape, brt_tensor *tensor, brt_gradient gradient);
/* Adds the gradient of an operation's output, which its backward has done with, to that of an input of the same size:
 * where it is the first, by handing on the memory. */
void brt_gradient_hand_on(brt_tape *tape, brt_tensor *output, brt_tensor *input);
/* The tensor's gradient itself, for operations that can overwrite it if `has_gradient` was false before, and add to it
 * if it was true. NULL if the tensor wants none. */
real *brt_gradient_reach(brt_tape *tape, brt_tensor *tensor);
/* The tensor's gradient itself, zero-filled at first, to ADD to; NULL if the tensor wants none. */
real *brt_gradient_accumulate(brt_tape *tape, brt_tensor *tensor);
/* Scratch of `count` reals for one builder or backward call; its data is NULL while planning. */
brt_tensor *brt_scratch(brt_tape *tape, size_t count);
void brt_scratch_free(brt_tape *tape, brt_tensor *scratch);

#endif
