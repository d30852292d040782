/* Two attentions joined, as if one had seen the keys of both, as far as each head's gate g lets the second in:
 *   c = g sigmoid(m - l),  y = (1 - c) x + c z
 * for outputs x and z and the logarithms l and m of their softmaxes' sums. With d = dy . (z - x) of a head:
 *   dx = (1 - c) dy,  dz = c dy,  dg = sigmoid d,  dm = g sigmoid (1 - sigmoid) d = -dl. */
#include "attention.h"
#include "rows.h"

#include "../base/parallel.h"

#include <math.h>
#include <string.h>

enum { first, first_sum, second, second_sum, gate };

enum { most_groups = 32 }; /* partial sums of the gates' gradients; a fixed number, so a fixed order */

/* How one attention's outputs and sums lie: parts of rows by themselves, the last one filled up. */
typedef struct layout {
    size_t part, parts;       /* queries of a part; parts of a batch row */
    size_t key_heads, heads;
} layout;

typedef struct joining {
    size_t batch, time, heads, dim;
    size_t out_row, out_offset;
    layout first, second;
} joining;

typedef struct job {
    const brt_kernels *kernels;
    const joining *how;
    size_t group; /* queries of a task */
    const real *x, *l, *z, *m, *gate;
    real *y;                     /* in backward its gradient */
    real *dx, *dl, *dz, *dm;
    real *dgate;                 /* [tasks, heads] */
} job;

static layout layout_of(const joining *how, const brt_tensor *sums)
{
    size_t heads = sums->shape[2], key_heads = how->heads / heads;
    return (layout){sums->shape[1], sums->shape[0] / (how->batch * key_heads), key_heads, heads};
}

/* Of head h of query t of a batch row, among the sums and, times dim, among the outputs. */
static size_t sum_index(const layout *l, size_t row, size_t t, size_t h)
{
    size_t at = (row * l->parts + t / l->part) * l->key_heads + h / l->heads;
    return (at * l->part + t % l->part) * l->heads + h % l->heads;
}

static size_t out_index(const layout *l, size_t row, size_t t, size_t h)
{
    return (row * l->parts * l->part + t) * l->key_heads * l->heads + h;
}

/* sigmoid(m - l); of two that saw nothing, the first. */
static real share_of_second(real l, real m)
{
    return m > -(real)INFINITY ? 1 / (1 + (real)exp((double)(l - m))) : 0;
}

/* One head of one query. */
typedef struct place {
    size_t x, l, z, m, y;
} place;

static place place_of(const joining *how, size_t query, size_t h)
{
    size_t row = query / how->time, t = query % how->time;
    return (place){.x = out_index(&how->first, row, t, h) * how->dim,
                   .l = sum_index(&how->first, row, t, h),
                   .z = out_index(&how->second, row, t, h) * how->dim,
                   .m = sum_index(&how->second, row, t, h),
                   .y = query * how->out_row + how->out_offset + h * how->dim};
}

static real gate_of(const job *j, size_t head)
{
    return j->gate ? j->gate[head] : 1;
}

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const joining *how = j->how;
    size_t end = brt_min_size((task + 1) * j->group, how->batch * how->time);
    (void)thread;
    for (size_t query = task * j->group; query < end; query++)
        for (size_t h = 0; h < how->heads; h++) {
            place at = place_of(how, query, h);
            real c = gate_of(j, h) * share_of_second(j->l[at.l], j->m[at.m]);
            memcpy(j->y + at.y, j->x + at.x, how->dim * sizeof(real));
            j->kernels->scale_add(how->dim, c, j->z + at.z, 1 - c, j->y + at.y);
        }
}

static void backward_head(const job *j, size_t query, size_t h, real *dgate)
{
    place at = place_of(j->how, query, h);
    size_t dim = j->how->dim;
    const real *dy = j->y + at.y;
    real share = share_of_second(j->l[at.l], j->m[at.m]), c = gate_of(j, h) * share, from_x, from_z;
    j->kernels->matvec(1, 1, dim, dy, dim, j->x + at.x, dim, &from_x, 1, false);
    j->kernels->matvec(1, 1, dim, dy, dim, j->z + at.z, dim, &from_z, 1, false);
    j->kernels->scale(dim, 1 - c, dy, j->dx + at.x);
    j->kernels->scale(dim, c, dy, j->dz + at.z);
    dgate[h] += share * (from_z - from_x);
    j->dm[at.m] = c * (1 - share) * (from_z - from_x);
    j->dl[at.l] = -j->dm[at.m];
}

static void backward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const joining *how = j->how;
    size_t end = brt_min_size((task + 1) * j->group, how->batch * how->time);
    real *dgate = j->dgate + task * how->heads;
    (void)thread;
    memset(dgate, 0, how->heads * sizeof *dgate);
    for (size_t query = task * j->group; query < end; query++)
        for (size_t h = 0; h < how->heads; h++)
            backward_head(j, query, h, dgate);
}

static job make_job(brt_tape *tape, const brt_node *node)
{
    const joining *how = node->attributes;
    return (job){.kernels = brt_tape_kernels(tape),
                 .how = how,
                 .group = brt_ceil_div(how->batch * how->time, most_groups),
                 .x = node->in[first]->data,
                 .l = node->in[first_sum]->data,
                 .z = node->in[second]->data,
                 .m = node->in[second_sum]->data,
                 .gate = node->in[gate] ? node->in[gate]->data : NULL};
}

static size_t task_count(const job *j)
{
    return brt_ceil_div(j->how->batch * j->how->time, j->group);
}

static void forward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    j.y = node->out[0]->data;
    brt_parallel_for(brt_tape_threads(tape), task_count(&j), forward_task, &j);
}

/* An input's gradient, or room for one that nobody wants. */
typedef struct input_gradient {
    brt_gradient gradient;
    brt_tensor *unwanted;
} input_gradient;

static input_gradient open_input(brt_tape *tape, brt_tensor *input)
{
    return (input_gradient){brt_gradient_open(tape, input),
                            input->wants_gradient ? NULL : brt_scratch(tape, input->count)};
}

static void close_input(brt_tape *tape, brt_tensor *input, input_gradient of)
{
    if (of.unwanted)
        brt_scratch_free(tape, of.unwanted);
    brt_gradient_close(tape, input, of.gradient);
}

/* Queries that fill up the last part get no gradient. */
static real *start_input(const brt_tensor *input, input_gradient of)
{
    real *data = of.unwanted ? of.unwanted->data : of.gradient.data;
    memset(data, 0, input->count * sizeof *data);
    return data;
}

static void backward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    input_gradient of[gate];
    for (size_t i = 0; i < gate; i++)
        of[i] = open_input(tape, node->in[i]);
    real *dgate = node->in[gate] ? brt_gradient_accumulate(tape, node->in[gate]) : NULL;
    brt_tensor *parts = brt_scratch(tape, task_count(&j) * j.how->heads);
    if (brt_tape_running(tape)) {
        j.y = node->out[0]->gradient;
        j.dx = start_input(node->in[first], of[first]);
        j.dl = start_input(node->in[first_sum], of[first_sum]);
        j.dz = start_input(node->in[second], of[second]);
        j.dm = start_input(node->in[second_sum], of[second_sum]);
        j.dgate = parts->data;
        brt_parallel_for(brt_tape_threads(tape), task_count(&j), backward_task, &j);
        for (size_t i = 0; dgate && i < task_count(&j); i++)
            j.kernels->add(j.how->heads, parts->data + i * j.how->heads, dgate);
    }
    brt_scratch_free(tape, parts);
    for (size_t i = gate; i-- > 0;)
        close_input(tape, node->in[i], of[i]);
}

static const brt_op op = {.name = "join", .forward = forward, .backward = backward};

void brt_op_join(brt_tape *tape, size_t heads, const brt_heard *one, const brt_heard *other, brt_tensor *gate_,
                 brt_tensor *out, size_t out_offset)
{
    joining how = {.batch = out->shape[0],
                   .time = out->shape[1],
                   .heads = heads,
                   .dim = one->out->shape[2] / heads,
                   .out_row = out->shape[2],
                   .out_offset = out_offset};
    how.first = layout_of(&how, one->log_sum_exp);
    how.second = layout_of(&how, other->log_sum_exp);
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {one->out, one->log_sum_exp, other->out, other->log_sum_exp, gate_},
                              .out = {out},
                              .attributes = &how},
                  sizeof how);
}
