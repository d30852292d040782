/* The snippet of the PyTorch package's README: three calls of 1024 tokens, memories and states of each going into the
 * next. There it is
 *
 *     model = BlockRecurrentTransformer(num_tokens = 20000, dim = 512, depth = 6, dim_head = 64, heads = 8,
 *                                       max_seq_len = 1024, block_width = 512, num_state_vectors = 512,
 *                                       recurrent_layers = (4,), use_flash_attn = True)
 *     seq = torch.randint(0, 2000, (1, 1024))
 *     out, mems1, states1 = model(seq)
 *     out, mems2, states2 = model(seq, xl_memories = mems1, states = states1)
 *     out, mems3, states3 = model(seq, xl_memories = mems2, states = states2)
 *
 * Here a stream holds them. */
#include <brt/brt.h>

#include <stdio.h>
#include <stdlib.h>

enum { num_tokens = 20000, dim = 512, vectors = 512, dim_head = 64, block_width = 512, length = 1024 };

static brt_status create_model(brt_model **model)
{
    static const char *const arguments[][2] = {
        {"num_tokens", "20000"},     {"dim", "512"},
        {"depth", "6"},              {"dim_head", "64"},
        {"heads", "8"},              {"max_seq_len", "1024"},
        {"block_width", "512"},      {"num_state_vectors", "512"},
        {"recurrent_layers", "[4]"}, {"use_flash_attn", "true"},
    };
    brt_config *config;
    brt_status status = brt_config_create(&config);
    if (status != BRT_OK)
        return status;
    for (size_t i = 0; i < sizeof arguments / sizeof arguments[0] && status == BRT_OK; i++)
        status = brt_config_set(config, arguments[i][0], arguments[i][1]);
    if (status == BRT_OK)
        status = brt_model_create(model, config, 0);
    brt_config_close(config);
    return status;
}

/* The call, and copies of what the next one starts from. */
static brt_status call(brt_stream *stream, const int32_t *seq, float *out, float *memories, float *states)
{
    brt_status status = brt_stream_feed(stream, seq, length, out);
    if (status == BRT_OK)
        status = brt_stream_memories(stream, 5, memories);
    if (status == BRT_OK)
        status = brt_stream_states(stream, 0, states);
    return status;
}

int main(void)
{
    brt_model *model = NULL;
    brt_stream *stream = NULL;
    brt_stream_options options = brt_stream_options_init();
    int32_t seq[length];
    float *out = calloc((size_t)length * num_tokens, sizeof *out);
    float *memories = calloc((size_t)2 * block_width * dim_head, sizeof *memories);
    float *states = calloc((size_t)vectors * dim, sizeof *states);
    brt_status status = out && memories && states ? create_model(&model) : BRT_ERROR_MEMORY;
    for (int i = 0; i < length; i++)
        seq[i] = rand() % 2000;
    if (status == BRT_OK)
        status = brt_stream_open(&stream, model, &options);
    for (int i = 1; i <= 3 && status == BRT_OK; i++) {
        status = call(stream, seq, out, memories, states);
        if (status == BRT_OK)
            printf("call %d: logits [1, %d, %d], first %9.6f; memories of layer 6 [2, 1, %zu, %d], first %9.6f; "
                   "states [1, %d, %d], first %9.6f\n",
                   i, length, num_tokens, (double)out[0], brt_stream_memory_length(stream), dim_head,
                   (double)memories[0], vectors, dim, (double)states[0]);
    }
    if (status != BRT_OK)
        fprintf(stderr, "%s\n", brt_last_error());
    brt_stream_close(stream);
    brt_model_close(model);
    free(out);
    free(memories);
    free(states);
    return status == BRT_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
