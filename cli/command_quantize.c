/* brt quantize: a model's weights in fewer bits, for faster and smaller inference. */
#define _GNU_SOURCE
#include "commands.h"
#include "output.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct quantize_arguments {
    const char *dtype;
    bool json;
} quantize_arguments;

static const cli_option options[] = {
    {"dtype", 0, CLI_CHOICE, offsetof(quantize_arguments, dtype), "bf16|int8|f32",
     "of the matrices and the embedding; f32: back to floats, with what was lost, so that it can be trained"},
    CLI_JSON(quantize_arguments),
    CLI_END,
};

static void set_defaults(void *arguments)
{
    *(quantize_arguments *)arguments = (quantize_arguments){.dtype = "int8"};
}

/* What there is may be all that remains of the original, or the original itself. */
static brt_status refuse_to_overwrite(const char *out)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/model.safetensors", out);
    return access(path, F_OK) == 0
               ? cli_fail(BRT_ERROR_ARGUMENT, "%s holds a model already; name another directory", out)
                                   : BRT_OK;
}

static brt_status count_bytes(const brt_model *model, uint64_t *bytes)
{
    brt_model_costs costs;
    size_t segment = (size_t)brt_config_get(brt_model_config(model), "max_seq_len");
    CLI_TRY(brt_model_measure(model, segment, segment, &costs));
    *bytes = costs.parameter_bytes;
    return BRT_OK;
}

static brt_status print_result(const quantize_arguments *a, const char *out, uint64_t before, uint64_t after)
{
    if (a->json)
        return cli_print_json(json_pack("{s:o, s:s, s:I, s:I}", "out", cli_text_json(out), "dtype", a->dtype,
                                        "parameter_bytes_before", (json_int_t)before, "parameter_bytes",
                                        (json_int_t)after));
    printf("%s: weights in %s, %s instead of %s\n", out, a->dtype, cli_bytes(after), cli_bytes(before));
    return cli_flush();
}

static brt_status quantize(const quantize_arguments *a, const char *run, const char *out)
{
    brt_model *model = NULL, *quantized = NULL;
    uint64_t before = 0, after = 0;
    CLI_TRY(refuse_to_overwrite(out));
    CLI_TRY(brt_model_load(&model, run));
    brt_status status = brt_model_quantize(&quantized, model, a->dtype);
    if (status == BRT_OK)
        status = count_bytes(model, &before);
    if (status == BRT_OK)
        status = count_bytes(quantized, &after);
    if (status == BRT_OK)
        status = brt_model_save(quantized, out);
    if (status == BRT_OK)
        status = print_result(a, out, before, after);
    brt_model_close(quantized);
    brt_model_close(model);
    return status;
}

static int run(const cli_parsed *parsed)
{
    quantize_arguments arguments;
    set_defaults(&arguments);
    if (!cli_store(parsed, &arguments))
        return CLI_USAGE;
    return cli_exit_status(quantize(&arguments, parsed->positional[0], parsed->positional[1]));
}

const cli_command cli_quantize = {
    .name = "quantize",
    .positional = "RUN OUT",
    .least = 2,
    .most = 2,
    .summary = "write a model with weights in fewer bits",
    .description =
        "Reads the model in RUN and writes it to OUT with its matrices and its embedding rounded: to bf16, or to 8-bit "
        "integers with a scale for each output. A token is then generated in about half or a quarter of the time and "
        "the memory. Every command that reads a model reads OUT, but it cannot be trained.",
    .options = options,
    .arguments_size = sizeof(quantize_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
