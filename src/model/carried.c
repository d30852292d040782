#include "carried.h"

#include "../base/size.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(brt_slots *slots, const char *kind, size_t index, size_t vectors, size_t width,
                const brt_tensor *initial)
{
    brt_slot *slot = &slots->items[slots->count++];
    *slot = (brt_slot){.vectors = vectors, .width = width, .initial = initial};
    snprintf(slot->name, sizeof slot->name, "%s.%zu", kind, index);
}

static bool is_paper(const brt_config *config)
{
    return config->arithmetic == BRT_ARITHMETIC_PAPER;
}

static brt_status make_zeros(brt_tensor *zeros, size_t vectors, size_t width)
{
    *zeros = (brt_tensor){.dims = 2,
                          .shape = {vectors, width},
                          .count = vectors * width,
                          .data_offset = BRT_WORKSPACE_NONE,
                          .gradient_offset = BRT_WORKSPACE_NONE};
    zeros->data = calloc(zeros->count, sizeof *zeros->data);
    return zeros->data ? BRT_OK : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu numbers", vectors * width);
}

brt_status brt_slots_create(brt_slots *slots, const brt_config *config, const brt_state_container *container)
{
    size_t depth = (size_t)config->depth, states = config->recurrent_layers.count;
    size_t conditional = config->conditional_ff_layers.count;
    *slots = (brt_slots){
        .items = calloc(2 * depth + states + config->routed_layers.count + conditional, sizeof *slots->items)};
    if (!slots->items)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for what %zu layers carry", depth);
    if (is_paper(config))
        BRT_TRY(make_zeros(&slots->zeros, (size_t)config->block_width, brt_carried_raw_width(config)));
    BRT_TRY(make_zeros(&slots->first_price, 1, BRT_PRICE_NUMBERS));
    slots->memory = slots->count;
    for (size_t layer = 0; layer < depth; layer++)
        add(slots, "memory", layer, (size_t)config->block_width, brt_carried_raw_width(config),
            is_paper(config) ? &slots->zeros : NULL);
    slots->compressed = slots->count;
    for (size_t layer = 0; config->use_compressed_mem && layer < depth; layer++)
        add(slots, "compressed", layer, brt_carried_compressed(config), brt_carried_raw_width(config), NULL);
    slots->state = slots->count;
    for (size_t i = 0; i < states; i++)
        add(slots, "state", i, (size_t)config->num_state_vectors, (size_t)config->dim, container[i].initial);
    slots->route_input = slots->count;
    for (size_t i = 0; config->route_every && i < config->routed_layers.count; i++)
        add(slots, "input", i, 1, (size_t)config->dim, NULL);
    slots->price = slots->count;
    for (size_t i = 0; i < conditional; i++)
        add(slots, "price", i, 1, BRT_PRICE_NUMBERS, &slots->first_price);
    return BRT_OK;
}

void brt_slots_close(brt_slots *slots)
{
    free(slots->items);
    free(slots->zeros.data);
    free(slots->first_price.data);
    *slots = (brt_slots){0};
}

size_t brt_slot_row(const brt_slot *slot)
{
    return slot->vectors * slot->width;
}

void brt_slot_start(const brt_slot *slot, real *rows, size_t row)
{
    size_t count = brt_slot_row(slot);
    if (slot->initial)
        memcpy(rows + row * count, slot->initial->data, count * sizeof *rows);
    else
        memset(rows + row * count, 0, count * sizeof *rows);
}

size_t brt_slots_reals(const brt_slots *slots, size_t rows)
{
    size_t count = 0;
    for (size_t i = 0; i < slots->count; i++)
        count += rows * brt_slot_row(&slots->items[i]);
    return count;
}

size_t brt_carried_raw_width(const brt_config *config)
{
    return 2 * (size_t)config->kv_heads * (size_t)config->dim_head;
}

size_t brt_carried_compressed(const brt_config *config)
{
    return config->use_compressed_mem ? (size_t)config->block_width / 2 : 0;
}

size_t brt_carried_entries(const brt_config *config)
{
    size_t width = (size_t)config->block_width;
    return config->compressed_mem_factor > 1 ? width / (size_t)config->compressed_mem_factor : width;
}

size_t brt_carried_keys(const brt_config *config)
{
    return brt_carried_compressed(config) + (size_t)config->block_width;
}

/* The last block is the window; what the blocks before it left is compressed, as far as there is room. */
size_t brt_carried_visible(const brt_config *config, uint64_t past)
{
    size_t room = brt_carried_compressed(config);
    if (!past)
        return is_paper(config) ? (size_t)config->block_width : 0;
    uint64_t blocks = past - 1 < room ? past - 1 : room;
    return (size_t)config->block_width + brt_min_size(room, (size_t)blocks * brt_carried_entries(config));
}

size_t brt_carried_first_key(const brt_config *config, uint64_t past)
{
    return brt_carried_keys(config) - brt_carried_visible(config, past);
}

size_t brt_carried_offset(const brt_config *config, uint64_t past)
{
    return (size_t)(past % (uint64_t)(config->max_seq_len / config->block_width)) * (size_t)config->block_width;
}
