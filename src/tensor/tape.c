#include "tape.h"

#include "../base/clock.h"
#include "../base/size.h"
#include "bulk.h"

#include <stdlib.h>
#include <string.h>

/* Tensors, nodes and attributes live in chunks that are reused every round; nothing moves. */
enum { chunk_bytes = 1 << 16, most_operations = 64 };

typedef struct chunk {
    struct chunk *next;
    size_t used;
    _Alignas(64) unsigned char bytes[chunk_bytes];
} chunk;

struct brt_tape {
    brt_workspace *workspace;
    const brt_kernels *kernels;
    int threads;
    bool recording, bf16;
    brt_status status;
    chunk *chunks, *chunk; /* first, current */
    brt_node **nodes;      /* recorded, in order */
    size_t node_count, node_capacity;
    brt_tensor **tensors;  /* with memory in the workspace, in order */
    size_t tensor_count, tensor_capacity;
    brt_tensor sink; /* handed out after a failure */
    bool takes_times;
    brt_op_time times[most_operations];
    size_t operations;
};

brt_status brt_tape_create(brt_tape **out, const brt_kernels *kernels, int threads)
{
    brt_tape *tape = calloc(1, sizeof *tape);
    if (!tape)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a tape");
    tape->kernels = kernels;
    tape->threads = threads;
    brt_status status = brt_workspace_plan(&tape->workspace);
    if (status != BRT_OK) {
        free(tape);
        return status;
    }
    *out = tape;
    return BRT_OK;
}

void brt_tape_close(brt_tape *tape)
{
    if (!tape)
        return;
    for (chunk *c = tape->chunks; c;) {
        chunk *next = c->next;
        free(c);
        c = next;
    }
    brt_workspace_close(tape->workspace);
    free(tape->nodes);
    free(tape->tensors);
    free(tape);
}

const brt_kernels *brt_tape_kernels(const brt_tape *tape)
{
    return tape->kernels;
}

int brt_tape_threads(const brt_tape *tape)
{
    return tape->threads;
}

bool brt_tape_is_planning(const brt_tape *tape)
{
    return brt_workspace_is_planning(tape->workspace);
}

bool brt_tape_running(const brt_tape *tape)
{
    return !brt_tape_is_planning(tape) && tape->status == BRT_OK;
}

size_t brt_tape_bytes(const brt_tape *tape)
{
    return brt_workspace_peak(tape->workspace);
}

bool brt_tape_recording(const brt_tape *tape)
{
    return tape->recording;
}

void brt_tape_record(brt_tape *tape, bool on)
{
    tape->recording = on;
}

void brt_tape_use_bf16(brt_tape *tape)
{
    tape->bf16 = true;
}

bool brt_tape_has_bf16(const brt_tape *tape)
{
    return tape->bf16;
}

brt_status brt_tape_status(const brt_tape *tape)
{
    return tape->status;
}

void brt_tape_fail(brt_tape *tape, brt_status status)
{
    if (tape->status == BRT_OK)
        tape->status = status;
}

brt_status brt_tape_commit(brt_tape *tape)
{
    brt_tape_reset(tape);
    BRT_TRY(tape->status);
    return brt_workspace_commit(tape->workspace);
}

/* ---- times ----------------------------------------------------------------------------------------- */

void brt_tape_take_times(brt_tape *tape)
{
    tape->takes_times = true;
}

const brt_op_time *brt_tape_times(const brt_tape *tape, size_t *count)
{
    *count = tape->operations;
    return tape->times;
}

static brt_op_time *time_of(brt_tape *tape, const brt_op *op)
{
    size_t i = 0;
    while (i < tape->operations && tape->times[i].name != op->name)
        i++;
    if (i == tape->operations && i < most_operations)
        tape->times[tape->operations++].name = op->name;
    return &tape->times[brt_min_size(i, most_operations - 1)];
}

static void run_forward(brt_tape *tape, brt_node *node)
{
    double start = tape->takes_times ? brt_seconds() : 0;
    node->op->forward(tape, node);
    if (!tape->takes_times)
        return;
    brt_op_time *time = time_of(tape, node->op);
    time->calls++;
    time->forward_seconds += brt_seconds() - start;
    time->flops += (double)node->flops;
}

/* ---- book-keeping memory ------------------------------------------------------------------------- */

static void out_of_memory(brt_tape *tape)
{
    brt_tape_fail(tape, BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the book-keeping of a step"));
}

static bool next_chunk(brt_tape *tape)
{
    if (tape->chunk && tape->chunk->next) {
        tape->chunk = tape->chunk->next;
        tape->chunk->used = 0;
        return true;
    }
    chunk *fresh = malloc(sizeof *fresh);
    if (!fresh)
        return false;
    fresh->next = NULL;
    fresh->used = 0;
    if (tape->chunk)
        tape->chunk->next = fresh;
    else
        tape->chunks = fresh;
    tape->chunk = fresh;
    return true;
}

static void *keep(brt_tape *tape, size_t bytes)
{
    bytes = brt_ceil_div(bytes, 16) * 16;
    if ((!tape->chunk || tape->chunk->used + bytes > chunk_bytes) && !next_chunk(tape)) {
        out_of_memory(tape);
        return NULL;
    }
    void *memory = tape->chunk->bytes + tape->chunk->used;
    tape->chunk->used += bytes;
    return memory;
}

static bool append(void ***list, size_t *count, size_t *capacity, void *item)
{
    if (*count == *capacity) {
        size_t grown = *capacity ? 2 * *capacity : 256;
        void **memory = realloc(*list, grown * sizeof *memory);
        if (!memory)
            return false;
        *list = memory;
        *capacity = grown;
    }
    (*list)[(*count)++] = item;
    return true;
}

/* ---- tensors --------------------------------------------------------------------------------------- */

static brt_tensor *new_tensor(brt_tape *tape, size_t dims, const size_t *shape)
{
    brt_tensor *tensor = tape->status == BRT_OK ? keep(tape, sizeof *tensor) : NULL;
    if (!tensor)
        tensor = &tape->sink;
    memset(tensor, 0, sizeof *tensor);
    tensor->data_offset = tensor->gradient_offset = BRT_WORKSPACE_NONE;
    tensor->dims = dims;
    tensor->count = 1;
    for (size_t i = 0; i < dims; i++) {
        tensor->shape[i] = shape[i];
        tensor->count *= shape[i];
    }
    return tensor;
}

static size_t take(brt_tape *tape, size_t bytes)
{
    size_t offset = brt_workspace_take(tape->workspace, bytes);
    if (offset == BRT_WORKSPACE_NONE)
        brt_tape_fail(tape, BRT_FAIL(BRT_ERROR_INTERNAL,
                                     "a step asked for more working memory than was planned (%zu bytes)",
                                     brt_workspace_peak(tape->workspace)));
    return offset;
}

static void give_memory(brt_tape *tape, brt_tensor *tensor)
{
    tensor->data_offset = take(tape, tensor->count * sizeof(real));
    if (tape->status == BRT_OK)
        tensor->data = brt_workspace_at(tape->workspace, tensor->data_offset);
}

brt_tensor *brt_tape_tensor(brt_tape *tape, size_t dims, const size_t *shape)
{
    brt_tensor *tensor = new_tensor(tape, dims, shape);
    if (tape->status == BRT_OK)
        give_memory(tape, tensor);
    if (tape->status != BRT_OK)
        return tensor;
    if (!append((void ***)&tape->tensors, &tape->tensor_count, &tape->tensor_capacity, tensor))
        out_of_memory(tape);
    return tensor;
}

brt_tensor *brt_tape_external(brt_tape *tape, real *data, real *gradient, size_t dims, const size_t *shape)
{
    brt_tensor *tensor = new_tensor(tape, dims, shape);
    tensor->data = data;
    tensor->gradient = gradient;
    tensor->has_gradient = tensor->wants_gradient = gradient != NULL;
    return tensor;
}

brt_tensor *brt_tape_constant(brt_tape *tape, const brt_tensor *tensor)
{
    return tensor ? brt_tape_external(tape, tensor->data, NULL, tensor->dims, tensor->shape) : NULL;
}

static void release_data(brt_tape *tape, brt_tensor *tensor)
{
    if (tensor->data_offset == BRT_WORKSPACE_NONE)
        return;
    brt_workspace_give(tape->workspace, tensor->data_offset);
    tensor->data_offset = BRT_WORKSPACE_NONE;
    tensor->data = NULL;
}

static void release_gradient(brt_tape *tape, brt_tensor *tensor)
{
    if (tensor->gradient_offset == BRT_WORKSPACE_NONE)
        return;
    brt_workspace_give(tape->workspace, tensor->gradient_offset);
    tensor->gradient_offset = BRT_WORKSPACE_NONE;
    tensor->gradient = NULL;
}

/* ---- nodes ----------------------------------------------------------------------------------------- */

static bool any_input_wants_gradient(const brt_node *node)
{
    for (int i = 0; i < BRT_MAX_INPUTS; i++)
        if (node->in[i] && node->in[i]->wants_gradient)
            return true;
    return false;
}

static void record(brt_tape *tape, brt_node *node)
{
    for (int i = 0; i < BRT_MAX_OUTPUTS; i++)
        if (node->out[i]) {
            node->out[i]->wants_gradient = true;
            node->out[i]->producers++;
            node->out[i]->maker = node;
        }
    if (!append((void ***)&tape->nodes, &tape->node_count, &tape->node_capacity, node))
        out_of_memory(tape);
}

void brt_tape_push(brt_tape *tape, const brt_node *node, size_t attribute_bytes)
{
    if (tape->status != BRT_OK)
        return;
    brt_node *kept = keep(tape, sizeof *kept);
    void *attributes = keep(tape, attribute_bytes);
    if (!kept || !attributes)
        return;
    *kept = *node;
    if (attribute_bytes > 0)
        memcpy(attributes, node->attributes, attribute_bytes);
    kept->attributes = attributes;
    if (tape->recording && any_input_wants_gradient(kept))
        record(tape, kept);
    if (brt_tape_running(tape))
        run_forward(tape, kept);
}

void brt_tape_forget(brt_tape *tape, brt_tensor *tensor)
{
    if (tape->status != BRT_OK || tensor->producers != 1 || !tensor->maker->op->repeatable || tensor->forgotten)
        return;
    tensor->forgotten = true;
    release_data(tape, tensor);
}

void brt_tape_round(brt_tape *tape, brt_tensor *tensor)
{
    if (!tape->bf16 || tape->status != BRT_OK || tensor->producers == 0 || tensor->rounded || tensor->forgotten)
        return;
    size_t offset = take(tape, tensor->count * sizeof(uint16_t));
    if (brt_tape_running(tape))
        brt_bulk_round(tape->kernels, tape->threads, tensor->count, tensor->data,
                       brt_workspace_at(tape->workspace, offset));
    release_data(tape, tensor);
    tensor->data_offset = offset;
    tensor->rounded = true;
}

static void widen(brt_tape *tape, brt_tensor *tensor)
{
    size_t rounded = tensor->data_offset;
    if (!tensor->rounded)
        return;
    give_memory(tape, tensor);
    if (brt_tape_running(tape))
        brt_bulk_widen(tape->kernels, tape->threads, tensor->count, brt_workspace_at(tape->workspace, rounded),
                       tensor->data);
    brt_workspace_give(tape->workspace, rounded);
    tensor->rounded = false;
}

void brt_tape_rewind(brt_tape *tape)
{
    while (tape->tensor_count > 0)
        release_data(tape, tape->tensors[--tape->tensor_count]);
    if (tape->node_count == 0) {
        tape->chunk = tape->chunks;
        if (tape->chunk)
            tape->chunk->used = 0;
    }
}

static void release_outputs(brt_tape *tape, brt_node *node)
{
    for (int i = 0; i < BRT_MAX_OUTPUTS; i++) {
        brt_tensor *tensor = node->out[i];
        if (tensor && --tensor->producers == 0) {
            release_gradient(tape, tensor);
            release_data(tape, tensor);
        }
    }
}

static bool reaches_loss(const brt_node *node)
{
    for (int i = 0; i < BRT_MAX_OUTPUTS; i++)
        if (node->out[i] && node->out[i]->reaches_loss)
            return true;
    return node->op->starts_backward;
}

/* Keeps the nodes that a loss depends on. */
static void drop_unneeded(brt_tape *tape)
{
    size_t kept = tape->node_count;
    for (size_t index = tape->node_count; index-- > 0;) {
        brt_node *node = tape->nodes[index];
        if (!reaches_loss(node)) {
            release_outputs(tape, node);
            continue;
        }
        for (int i = 0; i < BRT_MAX_INPUTS; i++)
            if (node->in[i])
                node->in[i]->reaches_loss = true;
        tape->nodes[--kept] = node;
    }
    tape->node_count -= kept;
    if (kept > 0)
        memmove(tape->nodes, tape->nodes + kept, tape->node_count * sizeof *tape->nodes);
}

static bool has_gradient(const brt_node *node)
{
    for (int i = 0; i < BRT_MAX_OUTPUTS; i++)
        if (node->out[i] && node->out[i]->has_gradient)
            return true;
    return node->op->starts_backward;
}

static void remember_inputs(brt_tape *tape, const brt_node *node);

/* Computes what was forgotten of a node's outputs, and its other outputs with it. */
static void remember_outputs(brt_tape *tape, brt_node *node)
{
    remember_inputs(tape, node);
    for (int i = 0; i < BRT_MAX_OUTPUTS; i++)
        if (node->out[i] && node->out[i]->forgotten) {
            give_memory(tape, node->out[i]);
            node->out[i]->forgotten = false;
        }
    if (brt_tape_running(tape))
        run_forward(tape, node);
}

static void remember_inputs(brt_tape *tape, const brt_node *node)
{
    for (int i = 0; i < BRT_MAX_INPUTS; i++) {
        if (node->in[i] && node->in[i]->forgotten)
            remember_outputs(tape, node->in[i]->maker);
        if (node->in[i])
            widen(tape, node->in[i]);
    }
}

static void run_backward(brt_tape *tape, brt_node *node)
{
    remember_inputs(tape, node);
    for (int i = 0; i < BRT_MAX_OUTPUTS; i++)
        if (node->out[i])
            widen(tape, node->out[i]);
    double start = tape->takes_times ? brt_seconds() : 0;
    node->op->backward(tape, node);
    if (!tape->takes_times)
        return;
    brt_op_time *time = time_of(tape, node->op);
    time->backward_seconds += brt_seconds() - start;
    time->backward_flops += (double)node->backward_flops;
}

void brt_tape_backward(brt_tape *tape)
{
    if (tape->status == BRT_OK)
        drop_unneeded(tape);
    while (tape->node_count > 0 && tape->status == BRT_OK) {
        brt_node *node = tape->nodes[--tape->node_count];
        if (has_gradient(node))
            run_backward(tape, node);
        release_outputs(tape, node);
    }
    brt_tape_reset(tape);
}

void brt_tape_reset(brt_tape *tape)
{
    for (size_t i = 0; i < tape->tensor_count; i++)
        release_gradient(tape, tape->tensors[i]);
    tape->node_count = 0;
    brt_tape_rewind(tape);
}

/* ---- gradients ------------------------------------------------------------------------------------- */

/* Gives the tensor gradient memory of its own. What has a gradient has its memory: a parameter's is elsewhere, and not
 * made yet while planning. */
static void ensure_gradient(brt_tape *tape, brt_tensor *tensor)
{
    if (tensor->gradient || tensor->has_gradient)
        return;
    tensor->gradient_offset = take(tape, tensor->count * sizeof(real));
    if (tape->status == BRT_OK)
        tensor->gradient = brt_workspace_at(tape->workspace, tensor->gradient_offset);
}

real *brt_gradient_reach(brt_tape *tape, brt_tensor *tensor)
{
    if (!tensor->wants_gradient)
        return NULL;
    ensure_gradient(tape, tensor);
    tensor->has_gradient = true;
    return tensor->gradient;
}

real *brt_gradient_accumulate(brt_tape *tape, brt_tensor *tensor)
{
    bool fresh = !tensor->has_gradient;
    real *gradient = brt_gradient_reach(tape, tensor);
    if (fresh && gradient)
        brt_bulk_zero(tape->threads, tensor->count, gradient);
    return gradient;
}

brt_gradient brt_gradient_open(brt_tape *tape, brt_tensor *tensor)
{
    brt_gradient gradient = {0};
    if (!tensor->wants_gradient)
        return gradient;
    if (tensor->has_gradient) {
        gradient.aside = brt_scratch(tape, tensor->count);
        gradient.data = gradient.aside->data;
        return gradient;
    }
    gradient.data = brt_gradient_reach(tape, tensor);
    return gradient;
}

void brt_gradient_close(brt_tape *tape, brt_tensor *tensor, brt_gradient gradient)
{
    if (!gradient.aside)
        return;
    if (gradient.data)
        brt_bulk_add(tape->kernels, tape->threads, tensor->count, gradient.data, tensor->gradient);
    brt_scratch_free(tape, gradient.aside);
}

void brt_gradient_hand_on(brt_tape *tape, brt_tensor *output, brt_tensor *input)
{
    if (!input->wants_gradient)
        return;
    if (!input->has_gradient && output->producers == 1 && output->gradient_offset != BRT_WORKSPACE_NONE) {
        input->gradient = output->gradient;
        input->gradient_offset = output->gradient_offset;
        input->has_gradient = true;
        output->gradient = NULL;
        output->gradient_offset = BRT_WORKSPACE_NONE;
        return;
    }
    real *gradient = brt_gradient_accumulate(tape, input);
    if (brt_tape_running(tape))
        brt_bulk_add(tape->kernels, tape->threads, input->count, output->gradient, gradient);
}

brt_tensor *brt_scratch(brt_tape *tape, size_t count)
{
    brt_tensor *scratch = new_tensor(tape, BRT_SHAPE(count));
    if (tape->status == BRT_OK)
        give_memory(tape, scratch);
    return scratch;
}

void brt_scratch_free(brt_tape *tape, brt_tensor *scratch)
{
    release_data(tape, scratch);
}
