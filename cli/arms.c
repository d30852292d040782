#define _GNU_SOURCE
#include "arms.h"

#include "options.h"
#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A new arm is a line here. */
static const struct {
    const char *name, *options, *help;
} arms[] = {
    {"base", "", "the model as the other options describe it"},
    {"no-recurrence", "--recurrent-layers []", "no states"},
    {"no-memories", "--xl-memories-dropout 1", "every segment starts without memories"},
    {"one-block", "--segment-blocks 1", "no backpropagation through the states"},
    {"gate-keeps", "--state-gate-bias -3", "states that keep 95 % of themselves at first"},
    {"package-scale", "--qk-logit-scale 0", "normalised queries and keys as the package scales them"},
    {"logit-scale-8", "--qk-logit-scale 8", "sharper attention of normalised queries and keys"},
    {"not-normalised", "--recurrent-qk-rmsnorm false", "recurrent layers without normalised queries and keys"},
    {"memformer", "--state-cell memformer", "states that attend to the block and forget by a bias"},
    {"gated-residuals", "--residual-gates true", "the state's gates in the residual stream"},
    {"exact-window", "--window exact", "block_width keys for every token"},
    {"rotary", "--position-encoding rotary", "rotary positions without length factors"},
    {"t5", "--position-encoding t5", "learned biases by ranges of distances"},
    {"dynamic", "--position-encoding dynamic", "an MLP of the distance as a bias"},
    {"alibi", "--position-encoding alibi", "a bias that falls with the distance"},
    {"no-positions", "--position-encoding none", "no positions"},
    {"compressed", "--use-compressed-mem true", "compressed memories behind the window"},
    {"routed", "--routed-layers 2", "layer 2 looks up what has left the window"},
    {"random-routes", "--routed-layers 2 --random-routes true", "layer 2 is given tokens at random from there"},
    {"conditional-ff", "--conditional-ff-layers 2", "layer 2 has its feed-forward for one token in sixteen"},
    /* Table 1 of Hutchins et al. (2022), for the preset paper-tiny: every update sees as many tokens. */
    {"paper-xl", "--recurrent-layers [] --segment-blocks 1 --accumulation 8", "XL: segments of a window"},
    {"paper-xl-wide", "--recurrent-layers [] --block-width 256 --segment-blocks 1 --accumulation 2",
     "XL: segments of a window four times as wide"},
    {"paper-slide", "--recurrent-layers []", "Slide: gradients through 8 windows, no states"},
    {"paper-slide-deeper", "--recurrent-layers [] --depth 5",
     "Slide:13L: a layer more, as many weights as with states"},
    {"paper-fixed-skip", "--state-gate fixed --state-update skip", "Rec:fixed:skip"},
    {"paper-fixed-dual", "--state-gate fixed --state-update dual", "Rec:fixed:dual"},
    {"paper-fixed-single", "--state-gate fixed --state-update single", "Rec:fixed:single"},
    {"paper-lstm-skip", "--state-gate lstm --state-update skip", "Rec:lstm:skip"},
    {"paper-lstm-dual", "--state-gate lstm --state-update dual", "Rec:lstm:dual"},
    {"paper-lstm-single", "--state-gate lstm --state-update single", "Rec:lstm:single"},
    {"paper-routed",
     "--recurrent-layers [] --segment-blocks 1 --accumulation 8 --routed-layers 2 --routed-capacity 65536 "
     "--routed-tokens 64 --route-every 16",
     "in the place of Memorizing Transformers: XL whose layer 2 looks up what has left the window"},
    {"paper-feedback", "--state-gate lstm --state-update single --feedback true", "Feedback:lstm:single"},
};

const char *arm_name_at(size_t index, const char **help)
{
    if (index >= sizeof arms / sizeof arms[0])
        return NULL;
    *help = arms[index].help;
    return arms[index].name;
}

static const char *listed_name_at(const void *context, size_t index)
{
    const char *help;
    (void)context;
    return arm_name_at(index, &help);
}

static const char *find_options(const char *name)
{
    for (size_t i = 0; i < sizeof arms / sizeof arms[0]; i++)
        if (strcmp(arms[i].name, name) == 0)
            return arms[i].options;
    return NULL;
}

static brt_status split(arm *out)
{
    char *rest;
    size_t count = 0;
    for (char *word = strtok_r(out->text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        if (count + 1 == ARM_MOST_OPTIONS)
            return cli_fail(BRT_ERROR_ARGUMENT, "the arm %s has more than %d words", out->name, ARM_MOST_OPTIONS - 1);
        out->options[count++] = word;
    }
    return BRT_OK;
}

static brt_status check_name(const char *name, size_t length)
{
    const char *allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    if (length == 0 || length >= sizeof ((arm *)0)->name || strspn(name, allowed) < length || name[0] == '.')
        return cli_fail(BRT_ERROR_ARGUMENT, "\"%s\" is no arm: a name of letters, digits, '-', '_' and '.' is "
                                            "expected, or NAME=OPTIONS",
                        name);
    return BRT_OK;
}

brt_status arm_parse(arm *out, const char *text)
{
    size_t length = strcspn(text, "=");
    *out = (arm){0};
    CLI_TRY(check_name(text, length));
    snprintf(out->name, sizeof out->name, "%.*s", (int)length, text);
    const char *options = text[length] ? text + length + 1 : find_options(out->name);
    if (!options) {
        const char *nearest = cli_nearest(out->name, listed_name_at, NULL);
        return cli_fail(BRT_ERROR_ARGUMENT, "there is no arm \"%s\"%s%s%s; one of your own is NAME=OPTIONS", out->name,
                        nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
    }
    out->text = strdup(options);
    return out->text ? split(out) : cli_out_of_memory("an arm");
}

void arm_close(arm *closed)
{
    free(closed->text);
    *closed = (arm){0};
}
