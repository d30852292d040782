#include "segment.h"

#include "../base/size.h"

#include <stdlib.h>
#include <string.h>

/* ---- what is carried ------------------------------------------------------------------------------------ */

/* Points the slots into the storage. */
static void place_carry(brt_carry *carry, const brt_model *model)
{
    real *at = carry->storage;
    for (size_t i = 0; i < model->slots.count; i++) {
        carry->slot[i] = at;
        at += carry->rows * brt_slot_row(&model->slots.items[i]);
    }
}

brt_status brt_carry_create(brt_carry *carry, const brt_model *model, size_t rows, size_t blocks)
{
    *carry = (brt_carry){.rows = rows, .count = brt_slots_reals(&model->slots, rows), .model = model};
    carry->slot = calloc(model->slots.count, sizeof *carry->slot);
    carry->past = calloc(rows, sizeof *carry->past);
    carry->born = calloc(rows, sizeof *carry->born);
    carry->storage = calloc(carry->count, sizeof *carry->storage);
    carry->spare = calloc(carry->count, sizeof *carry->spare);
    if (!carry->slot || !carry->past || !carry->born || !carry->storage || !carry->spare) {
        brt_carry_close(carry);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the memories and states of %zu rows", rows);
    }
    place_carry(carry, model);
    brt_ring_shape shape =
        brt_routed_ring_shape(&model->config, (size_t)model->config.routed_capacity, rows, blocks);
    brt_status status = brt_rings_create(&carry->rings, &shape, model->routed);
    if (status != BRT_OK)
        brt_carry_close(carry);
    return status;
}

void brt_carry_close(brt_carry *carry)
{
    free(carry->slot);
    free(carry->past);
    free(carry->born);
    free(carry->storage);
    free(carry->spare);
    if (carry->model)
        brt_rings_close(carry->rings, carry->model->routed);
    *carry = (brt_carry){0};
}

void brt_carry_clear_row(brt_carry *carry, size_t row)
{
    carry->past[row] = 0;
    carry->born[row] = carry->rings ? carry->rings[0].end : 0;
}

/* Tensors [rows, vectors, width] over each slot of what is laid out as a carry's storage; gradient has the same layout,
 * or is NULL. */
static void read_stored(brt_tape *tape, const brt_segment_run *run, real *data, real *gradient, brt_tensor **carried)
{
    const brt_slots *slots = &run->model->slots;
    size_t rows = run->carry->rows, offset = 0;
    for (size_t i = 0; i < slots->count; i++) {
        const brt_slot *slot = &slots->items[i];
        carried[i] = brt_tape_external(tape, data + offset, gradient ? gradient + offset : NULL,
                                       BRT_SHAPE(rows, slot->vectors, slot->width));
        offset += rows * brt_slot_row(slot);
    }
}

/* Copies what a block leaves to such a storage. */
static void store_block(const brt_segment_run *run, const brt_block *block, real *to)
{
    for (size_t i = 0; i < run->model->slots.count; i++) {
        memcpy(to, block->carried[i]->data, block->carried[i]->count * sizeof(real));
        to += block->carried[i]->count;
    }
}

/* What the next segment will read, to be filled by the caller, after `blocks` full blocks of this one; what this one
 * was carried stays readable beside it. */
static real *renew_carry(const brt_segment_run *run, size_t blocks)
{
    brt_carry *carry = run->carry;
    real *read = carry->storage;
    carry->storage = carry->spare;
    carry->spare = read;
    place_carry(carry, run->model);
    for (size_t row = 0; row < carry->rows; row++)
        carry->past[row] = run->past[row] + blocks;
    return carry->storage;
}

/* After a full block: what it leaves is what the next segment finds. */
static void carry_block(brt_tape *tape, const brt_segment_run *run, const brt_block *block, size_t blocks)
{
    if (brt_tape_running(tape))
        store_block(run, block, renew_carry(run, blocks));
}

/* ---- blocks ------------------------------------------------------------------------------------------------ */

enum { no_window = INT32_MAX }; /* a key past any window */

/* The size of a row's part in run->chosen_first_key: parts of a block. */
static size_t most_parts(const brt_segment_run *run)
{
    return run->model->routed ? brt_router_parts(run->model->routers, (size_t)run->model->config.block_width) : 0;
}

/* What each row remembers in a block that has `time` tokens. */
static void mark_remembered(const brt_segment_run *run, size_t block, size_t time)
{
    const brt_config *config = &run->model->config;
    size_t rows = run->carry->rows, parts = brt_router_parts(run->model->routers, time);
    uint64_t width = (uint64_t)config->block_width, end = run->ring_end + block * width;
    for (size_t row = 0; row < rows; row++) {
        uint64_t past = run->drop_memory[row] ? block : (end - run->carry->born[row]) / width;
        size_t remembered = brt_routed_remembered((size_t)config->routed_capacity, (size_t)width, past);
        run->begin[block * rows + row] = end - remembered;
        run->draw[block * rows + row] = past * most_parts(run);
        for (size_t part = 0; part < parts; part++)
            run->chosen_first_key[block * rows * most_parts(run) + row * parts + part] =
                brt_routing_first_key((size_t)config->routed_tokens, remembered);
    }
}

/* What each row sees in each block. Rows without carried memory, or whose memory was dropped, see only their own first
 * block. */
static void mark_blocks(brt_segment_run *run)
{
    const brt_config *config = &run->model->config;
    size_t rows = run->carry->rows, width = (size_t)config->block_width, blocks = brt_ceil_div(run->time, width);
    run->ring_end = run->model->routed ? run->carry->rings[0].end : 0;
    for (size_t block = 0; run->model->routed && block < blocks; block++)
        mark_remembered(run, block, brt_min_size(width, run->time - block * width));
    for (size_t row = 0; row < rows; row++) {
        run->past[row] = run->drop_memory[row] ? 0 : run->carry->past[row];
        run->fresh[row] = !run->carry->past[row] || run->drop_state[row];
        run->fresh[rows + row] = run->past[row] == 0;
        for (size_t block = 0; block < blocks; block++) {
            run->first_key[block * rows + row] = brt_carried_first_key(config, run->past[row] + block);
            run->offset[block * rows + row] = brt_carried_offset(config, run->past[row] + block);
            run->first_old[block * rows + row] = run->past[row] + block ? 0 : no_window;
        }
    }
}

static size_t count_compressions(const brt_segment_run *run)
{
    size_t full_blocks = run->time / (size_t)run->model->config.block_width, count = 0;
    if (!run->model->compressors)
        return 0;
    for (size_t i = 0; i < full_blocks * run->carry->rows; i++)
        count += run->first_old[i] == 0;
    return count * run->model->depth;
}

static bool is_state(const brt_slots *slots, size_t index, size_t states)
{
    return index >= slots->state && index < slots->state + states;
}

/* Points the first block at what is carried, `from` a carry's storage; rows that start anew read what a new one
 * does. */
static void enter(brt_tape *tape, const brt_segment_run *run, brt_block *block, real *from)
{
    const brt_slots *slots = &run->model->slots;
    read_stored(tape, run, from, NULL, block->carried);
    for (size_t i = 0; i < slots->count; i++)
        if (slots->items[i].initial)
            block->carried[i] = brt_op_select_state(
                tape, block->carried[i], (brt_tensor *)slots->items[i].initial,
                is_state(slots, i, run->model->containers) ? run->fresh : run->fresh + block->batch, block->batch);
}

static void copy_logits(const brt_tape *tape, const brt_segment_run *run, const brt_block *block,
                        const brt_tensor *logits, size_t first)
{
    size_t classes = (size_t)run->model->config.num_tokens;
    for (size_t row = 0; run->logits && brt_tape_running(tape) && row < block->batch; row++)
        memcpy(run->logits + (row * run->time + first) * classes, logits->data + row * block->time * classes,
               block->time * classes * sizeof(real));
}

/* The sum of the block's losses. */
static double add_loss(brt_tape *tape, const brt_segment_run *run, brt_tensor *x, const brt_block *block, size_t first)
{
    double sum = 0;
    const brt_config *config = &run->model->config;
    brt_tensor *logits = brt_model_logits(tape, run->model, x, block->dropouts);
    copy_logits(tape, run, block, logits, first);
    const int32_t *targets = run->targets + first * block->batch;
    brt_tensor *loss = brt_op_cross_entropy(tape, logits, targets, (int32_t)config->ignore_index, run->weight);
    for (size_t i = 0; brt_tape_running(tape) && i < loss->count; i++)
        sum += (double)loss->data[i];
    return sum;
}

/* Sets the block to the tokens from `first` on. */
static void take_tokens(const brt_tape *tape, const brt_segment_run *run, brt_block *block, size_t first)
{
    real reconstruction_weight = brt_tape_recording(tape) ? run->reconstruction_weight : 0;
    size_t width = (size_t)run->model->config.block_width;
    block->time = brt_min_size(width, run->time - first);
    block->tokens = run->tokens + first * block->batch;
    block->first_key = run->first_key + first / width * block->batch;
    block->offset = run->offset + first / width * block->batch;
    block->dropouts = run->dropouts;
    if (run->dropouts)
        run->dropouts->first = first;
    block->complete = block->time == width;
    block->reconstruction = (brt_reconstruction){
        .weight = reconstruction_weight / (real)brt_max_size(run->compressions, 1),
        .first_old = run->first_old + first / width * block->batch,
    };
    if (!run->model->routed)
        return;
    block->remembered = (brt_remembered){
        .rings = run->carry->rings,
        .begin = run->begin + first / width * block->batch,
        .end = run->ring_end + first,
        .first_key = run->chosen_first_key + first / width * block->batch * most_parts(run),
        .draw = run->draw + first / width * block->batch,
    };
}

/* One block; in a forward-only pass its memory is given back at once. */
static void run_block(brt_tape *tape, brt_segment_run *run, brt_block *block, size_t first)
{
    size_t width = (size_t)run->model->config.block_width;
    bool forward_only = !brt_tape_recording(tape);
    take_tokens(tape, run, block, first);
    if (first == 0)
        enter(tape, run, block, run->carry->storage);
    else if (forward_only)
        read_stored(tape, run, run->carry->storage, NULL, block->carried);
    run->loss += add_loss(tape, run, brt_model_block(tape, run->model, block), block, first);
    run->reconstruction += block->reconstruction.loss;
    bool last_full = block->time == width && run->time - first < 2 * width;
    if (block->time == width && (forward_only || last_full))
        carry_block(tape, run, block, first / width + 1);
    if (forward_only)
        brt_tape_rewind(tape);
}

static void run_all(brt_tape *tape, brt_segment_run *run, brt_block *block)
{
    for (size_t first = 0; first < run->time; first += (size_t)run->model->config.block_width)
        run_block(tape, run, block, first);
    if (brt_tape_recording(tape))
        brt_tape_backward(tape);
}

/* ---- replay ------------------------------------------------------------------------------------------------- */

uint64_t brt_replay_bytes(const brt_carry *carry, size_t blocks)
{
    return (uint64_t)(blocks + 2) * carry->count * sizeof(real);
}

brt_status brt_replay_create(brt_replay *replay, const brt_carry *carry, size_t blocks)
{
    *replay = (brt_replay){.blocks = blocks};
    replay->starts = calloc((blocks + 2) * brt_max_size(carry->count, 1), sizeof *replay->starts);
    replay->losses = calloc(blocks, sizeof *replay->losses);
    replay->reconstructions = calloc(blocks, sizeof *replay->reconstructions);
    if (!replay->starts || !replay->losses || !replay->reconstructions) {
        brt_replay_close(replay);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for what %zu blocks start from", blocks);
    }
    replay->gradient = replay->starts + blocks * carry->count;
    return BRT_OK;
}

void brt_replay_close(brt_replay *replay)
{
    free(replay->starts);
    free(replay->losses);
    free(replay->reconstructions);
    *replay = (brt_replay){0};
}

/* The gradient that the next block left for a tensor of this one, before anything else is added to it. */
static void hand_back(brt_tape *tape, brt_node *node)
{
    real *const *from = node->attributes;
    brt_gradient gradient = brt_gradient_open(tape, node->in[0]);
    if (gradient.data)
        memcpy(gradient.data, *from, node->in[0]->count * sizeof(real));
    brt_gradient_close(tape, node->in[0], gradient);
}

static void nothing(brt_tape *tape, brt_node *node)
{
    (void)tape, (void)node;
}

static const brt_op handed_on = {
    .name = "handed on", .forward = nothing, .backward = hand_back, .starts_backward = true};

/* Returns where the gradient of the next tensor is. */
static real *hand_on(brt_tape *tape, brt_tensor *tensor, real *gradient)
{
    brt_tape_push(tape, &(brt_node){.op = &handed_on, .in = {tensor}, .attributes = &gradient}, sizeof gradient);
    return gradient + tensor->count;
}

/* All that a block hands on; `gradient` has the layout of a start. */
static void hand_on_block(brt_tape *tape, const brt_segment_run *run, const brt_block *block, real *gradient)
{
    for (size_t i = 0; i < run->model->slots.count; i++)
        gradient = hand_on(tape, block->carried[i], gradient);
}

/* A block from where it starts: the first from what the segment was carried, a later one from its stored start;
 * `gradient` (of a start, or NULL) has the layout of the start. */
static void enter_again(brt_tape *tape, const brt_segment_run *run, brt_block *block, size_t index, real *carried,
                        real *gradient)
{
    real *start = run->replay->starts + index * run->carry->count;
    take_tokens(tape, run, block, index * (size_t)run->model->config.block_width);
    if (index == 0)
        enter(tape, run, block, carried);
    else
        read_stored(tape, run, start, gradient, block->carried);
}

/* Forward through all blocks but the last, for what each starts from. On a recording tape, which computes what the
 * backward pass will see. */
static void store_starts(brt_tape *tape, const brt_segment_run *run, brt_block *block, size_t blocks)
{
    for (size_t index = 0; index + 1 < blocks; index++) {
        enter_again(tape, run, block, index, run->carry->storage, NULL);
        block->reconstruction.weight = 0;
        brt_model_block(tape, run->model, block);
        if (brt_tape_running(tape))
            store_block(run, block, run->replay->starts + (index + 1) * run->carry->count);
        brt_tape_reset(tape);
    }
}

/* One block forward and backward. The gradient of its start takes the place of the one it was handed. */
static void replay_block(brt_tape *tape, const brt_segment_run *run, brt_block *block, size_t index, real *carried,
                         bool last)
{
    size_t width = (size_t)run->model->config.block_width, count = run->carry->count;
    real *start_gradient = run->replay->gradient, *end_gradient = start_gradient + count;
    memcpy(end_gradient, start_gradient, count * sizeof(real));
    memset(start_gradient, 0, count * sizeof(real));
    enter_again(tape, run, block, index, carried, start_gradient);
    brt_tensor *x = brt_model_block(tape, run->model, block);
    run->replay->losses[index] = add_loss(tape, run, x, block, index * width);
    run->replay->reconstructions[index] = block->reconstruction.loss;
    if (!last)
        hand_on_block(tape, run, block, end_gradient);
    if (last && block->complete)
        carry_block(tape, run, block, index + 1);
    brt_tape_backward(tape);
}

static void replay_all(brt_tape *tape, brt_segment_run *run, brt_block *block)
{
    size_t width = (size_t)run->model->config.block_width, blocks = brt_ceil_div(run->time, width);
    const brt_replay *replay = run->replay;
    real *carried = run->carry->storage; /* read until the first block has been run again */
    store_starts(tape, run, block, blocks);
    memset(replay->gradient, 0, run->carry->count * sizeof(real));
    for (size_t index = blocks; index-- > 0;)
        replay_block(tape, run, block, index, carried, index + 1 == blocks);
    /* After a last block that is not full, what it started from is carried on. */
    if (blocks > 1 && run->time % width && brt_tape_running(tape))
        memcpy(renew_carry(run, blocks - 1), replay->starts + (blocks - 1) * run->carry->count,
               run->carry->count * sizeof(real));
    for (size_t index = 0; index < blocks; index++) {
        run->loss += replay->losses[index];
        run->reconstruction += replay->reconstructions[index];
    }
}

/* ---- a segment ---------------------------------------------------------------------------------------------- */

brt_status brt_segment_execute(brt_tape *tape, brt_segment_run *run)
{
    brt_tensor **carried = calloc(run->model->slots.count, sizeof *carried);
    if (!carried)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a segment");
    brt_block block = {.batch = run->carry->rows, .carried = carried};
    run->loss = run->reconstruction = 0;
    mark_blocks(run);
    run->compressions = count_compressions(run);
    if (run->replay && brt_tape_recording(tape))
        replay_all(tape, run, &block);
    else
        run_all(tape, run, &block);
    run->reconstruction /= (double)brt_max_size(run->compressions, 1);
    free(carried);
    return brt_tape_status(tape);
}
