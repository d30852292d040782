/* Some rows of x [batch, block, width], chosen by their usage: y[n] = x[chosen[n]], dx[chosen[n]] = dy[n], else 0. */
#include "compression.h"

#include <string.h>

/* Whether row i comes before row j when rows are sorted by usage. */
static bool is_before(const real *usage, size_t i, size_t j)
{
    return usage[i] > usage[j] || (usage[i] == usage[j] && i < j);
}

static bool is_chosen(const brt_tensor *usage, size_t batch_row, size_t row, size_t entries)
{
    size_t block = usage->shape[1], before = 0;
    const real *of = usage->data + batch_row * block;
    for (size_t other = 0; other < block; other++)
        before += is_before(of, other, row);
    return before < entries;
}

/* Copies the chosen rows of `block` to `entries`, or back. */
static void move_rows(const brt_node *node, real *block, real *entries, bool back)
{
    const brt_tensor *x = node->in[0], *y = node->out[0];
    size_t width = x->shape[2];
    for (size_t b = 0; b < x->shape[0]; b++)
        for (size_t row = 0; row < x->shape[1]; row++, block += width) {
            if (!is_chosen(node->in[1], b, row, y->shape[1]))
                continue;
            memcpy(back ? block : entries, back ? entries : block, width * sizeof *block);
            entries += width;
        }
}

static void forward(brt_tape *tape, brt_node *node)
{
    (void)tape;
    move_rows(node, node->in[0]->data, node->out[0]->data, false);
}

static void backward(brt_tape *tape, brt_node *node)
{
    brt_gradient dx = brt_gradient_open(tape, node->in[0]);
    if (dx.data) {
        memset(dx.data, 0, node->in[0]->count * sizeof(real));
        move_rows(node, dx.data, node->out[0]->gradient, true);
    }
    brt_gradient_close(tape, node->in[0], dx);
}

static const brt_op op = {.name = "most used", .forward = forward, .backward = backward};

brt_tensor *brt_op_most_used(brt_tape *tape, brt_tensor *x, brt_tensor *usage, size_t factor)
{
    brt_tensor *y = brt_tape_tensor(tape, BRT_SHAPE(x->shape[0], x->shape[1] / factor, x->shape[2]));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x, usage}, .out = {y}}, 0);
    return y;
}
