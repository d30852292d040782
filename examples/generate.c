/* Continues a text: generate RUN TEXT [COUNT]
 *
 * The model's directory holds config.json and model.safetensors; its tokens are bytes. */
#include <brt/brt.h>

#include <stdio.h>
#include <stdlib.h>

static int fail(void)
{
    fprintf(stderr, "%s\n", brt_last_error());
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    if (argc < 3 || !argv[2][0]) {
        fprintf(stderr, "usage: %s RUN TEXT [COUNT]\n", argv[0]);
        return 2;
    }
    long count = argc > 3 ? strtol(argv[3], NULL, 10) : 500;
    brt_model *model = NULL;
    brt_stream *stream = NULL;
    brt_stream_options options = brt_stream_options_init();
    if (brt_model_load(&model, argv[1]) != BRT_OK || brt_stream_open(&stream, model, &options) != BRT_OK)
        return fail();
    if (brt_config_get(brt_model_config(model), "num_tokens") != 256) {
        fprintf(stderr, "the model's tokens are not bytes\n");
        return EXIT_FAILURE;
    }

    /* Each byte of the text is a token; the logits after the last one choose the first new token. */
    float logits[256];
    for (const char *c = argv[2]; *c; c++) {
        int32_t token = (unsigned char)*c;
        if (brt_stream_feed_last(stream, &token, 1, logits) != BRT_OK)
            return fail();
    }
    brt_sampling sampling = brt_sampling_init();
    sampling.temperature = 0.8f;
    sampling.top_p = 0.95f;
    for (long i = 0; i < count; i++) {
        int32_t token;
        if (brt_sample(logits, 256, &sampling, brt_stream_position(stream, 0), &token) != BRT_OK ||
            brt_stream_feed_last(stream, &token, 1, logits) != BRT_OK)
            return fail();
        putchar(token);
    }
    putchar('\n');
    brt_stream_close(stream);
    brt_model_close(model);
    return EXIT_SUCCESS;
}
