/* A queue of a fixed length: y = the last rows of queue | entries. Gradients go where the rows came from, 0 to those
 * that fell out. */
#include "compression.h"

#include "../base/size.h"

#include <string.h>

/* Reals of one row of the batch: the queue, what of the entries finds room, the rest of them. */
typedef struct push {
    size_t batch, queue, room, rest;
} push;

static void forward(brt_tape *tape, brt_node *node)
{
    const push *how = node->attributes;
    size_t kept = how->queue - how->room;
    (void)tape;
    for (size_t b = 0; b < how->batch; b++) {
        real *y = node->out[0]->data + b * how->queue;
        memcpy(y, node->in[0]->data + b * how->queue + how->room, kept * sizeof *y);
        memcpy(y + kept, node->in[1]->data + b * (how->rest + how->room) + how->rest, how->room * sizeof *y);
    }
}

static void backward(brt_tape *tape, brt_node *node)
{
    const push *how = node->attributes;
    size_t kept = how->queue - how->room;
    brt_gradient dqueue = brt_gradient_open(tape, node->in[0]), dentries = brt_gradient_open(tape, node->in[1]);
    for (size_t b = 0; brt_tape_running(tape) && b < how->batch; b++) {
        const real *dy = node->out[0]->gradient + b * how->queue;
        if (dqueue.data) {
            real *to = dqueue.data + b * how->queue;
            memset(to, 0, how->room * sizeof *to);
            memcpy(to + how->room, dy, kept * sizeof *to);
        }
        if (dentries.data) {
            real *to = dentries.data + b * (how->rest + how->room);
            memset(to, 0, how->rest * sizeof *to);
            memcpy(to + how->rest, dy + kept, how->room * sizeof *to);
        }
    }
    brt_gradient_close(tape, node->in[1], dentries);
    brt_gradient_close(tape, node->in[0], dqueue);
}

static const brt_op op = {.name = "push", .forward = forward, .backward = backward};

brt_tensor *brt_op_push(brt_tape *tape, brt_tensor *queue, brt_tensor *entries)
{
    size_t width = queue->shape[2], rows = queue->shape[1], room = brt_min_size(rows, entries->shape[1]);
    push how = {queue->shape[0], rows * width, room * width, (entries->shape[1] - room) * width};
    brt_tensor *y = brt_tape_tensor(tape, queue->dims, queue->shape);
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {queue, entries}, .out = {y}, .attributes = &how}, sizeof how);
    return y;
}
