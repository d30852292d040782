/* brt trace: what a model computes from given tokens, in files, to compare models and programs. */
#define _GNU_SOURCE
#include "commands.h"
#include "output.h"
#include "trace.h"

typedef struct trace_arguments {
    const char *tokens, *out, *isa;
    bool loss, grad;
    int grad_of;
    int threads;
} trace_arguments;

#define FIELD(field) offsetof(trace_arguments, field)

static const cli_option options[] = {
    {"tokens", 0, CLI_TEXT, FIELD(tokens), "IN.safetensors",
     "tokens.0, tokens.1, ...: [batch, time], of 32 or 64 bits, read as chained calls; a start_of_sequence.K [batch] "
     "that is not 0 starts the row anew before call K"},
    {"out", 'o', CLI_TEXT, FIELD(out), "OUT.safetensors", "where results go"},
    {"loss", 0, CLI_FLAG, FIELD(loss), NULL,
     "the last token of each row is only a target (in the paper's arithmetic an input without a target); adds loss.K, "
     "0 where all targets are ignored"},
    {"grad", 0, CLI_FLAG, FIELD(grad), NULL,
     "with the loss, also grad.NAME of every parameter: the gradient of the sum of the losses"},
    {"grad-of", 0, CLI_INTEGER, FIELD(grad_of), "K", "with --grad: the gradient of loss.K alone"},
    CLI_THREADS(trace_arguments, threads),
    CLI_ISA(trace_arguments),
    CLI_END,
};

static void set_defaults(void *arguments)
{
    *(trace_arguments *)arguments = (trace_arguments){.grad_of = TRACE_ALL_CALLS};
}

static brt_status write_trace(const trace_arguments *a, brt_model *model)
{
    trace_calls calls;
    brt_tensors *out;
    CLI_TRY(trace_read_calls(&calls, a->tokens));
    brt_status status = brt_tensors_create(&out);
    if (status == BRT_OK) {
        status = a->grad ? trace_gradients(model, &calls, a->threads, a->grad_of, out)
                         : trace_forward(model, &calls, a->threads, a->loss, out);
        if (status == BRT_OK)
            status = brt_tensors_save(out, a->out);
        brt_tensors_close(out);
    }
    trace_close_calls(&calls);
    return status;
}

static int run(const cli_parsed *parsed)
{
    trace_arguments arguments;
    set_defaults(&arguments);
    if (!cli_store(parsed, &arguments))
        return CLI_USAGE;
    if (cli_is_given(parsed, "grad-of") && !arguments.grad)
        return cli_usage_error(parsed->command, "--grad-of says of which loss --grad is; --grad is missing");
    if (!arguments.tokens || !arguments.out)
        return cli_usage_error(parsed->command, "--%s is missing", arguments.tokens ? "out" : "tokens");
    brt_model *model = NULL;
    brt_status status = cli_choose_isa(arguments.isa);
    if (status == BRT_OK)
        status = brt_model_load(&model, parsed->positional[0]);
    if (status == BRT_OK)
        status = write_trace(&arguments, model);
    brt_model_close(model);
    return cli_exit_status(status);
}

const cli_command cli_trace = {
    .name = "trace",
    .positional = "DIR",
    .least = 1,
    .most = 1,
    .summary = "write logits, memories, states and gradients into a file",
    .description =
        "Feeds tokens to the model in DIR as chained calls, memories and states of one going into the next. Writes "
        "logits.K [batch, time, vocabulary], memories.K.L [2, batch, keys, dim_head] of layer L from 0, and states.K.I "
        "[batch, vectors, dim] of recurrent layer I, all after call K, and routed.K.I [2, batch, tokens, dim_head] of "
        "the I-th routed memory. After a call that ends inside a block, memories and states are those of the last full "
        "block.",
    .options = options,
    .arguments_size = sizeof(trace_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
