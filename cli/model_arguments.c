#define _GNU_SOURCE
#include "model_arguments.h"

#include "output.h"

#include <stdio.h>
#include <string.h>

enum { most_options = 64, longest_name = 64 };

static const char *argument_of(const brt_config_key *key)
{
    if (strcmp(key->type, "integers") == 0)
        return "N,N...";
    if (strcmp(key->type, "boolean") == 0)
        return "true|false";
    if (strcmp(key->type, "choice") == 0)
        return "NAME";
    return strcmp(key->type, "number") == 0 ? "X" : "N";
}

/* block_width -> --block-width */
const cli_option *cli_model_option_at(size_t index)
{
    static cli_option options[most_options];
    static char names[most_options][longest_name];
    const brt_config_key *key = brt_config_key_at(index);
    if (!key || index >= most_options)
        return NULL;
    if (!options[index].name) {
        snprintf(names[index], longest_name, "%s", key->name);
        for (char *c = names[index]; *c; c++)
            *c = *c == '_' ? '-' : *c;
        options[index] = (cli_option){names[index], 0, CLI_MODEL, 0, argument_of(key), key->help};
    }
    return &options[index];
}

static const char *key_of(const cli_option *option)
{
    for (size_t i = 0; cli_model_option_at(i); i++)
        if (cli_model_option_at(i) == option)
            return brt_config_key_at(i)->name;
    return NULL;
}

bool cli_describes_model(const cli_parsed *parsed)
{
    if (cli_is_given(parsed, "preset") || cli_is_given(parsed, "config"))
        return true;
    for (size_t i = 0; i < parsed->given_count; i++)
        if (parsed->given[i].option->kind == CLI_MODEL)
            return true;
    return false;
}

brt_status cli_set_model_arguments(const cli_parsed *parsed, brt_config *config)
{
    for (size_t i = 0; i < parsed->given_count; i++) {
        const cli_given *given = &parsed->given[i];
        if (given->option->kind == CLI_MODEL)
            CLI_TRY(brt_config_set(config, key_of(given->option), given->text));
    }
    return BRT_OK;
}

static brt_status fill(const cli_parsed *parsed, const char *preset, const char *file, brt_config *config)
{
    if (preset)
        CLI_TRY(brt_config_preset(config, preset));
    if (file)
        CLI_TRY(brt_config_load(config, file));
    if (!preset && !file)
        CLI_TRY(brt_config_set(config, "num_tokens", "256"));
    CLI_TRY(cli_set_model_arguments(parsed, config));
    return brt_config_check(config);
}

brt_status cli_model_config(const cli_parsed *parsed, const char *preset, const char *file, brt_config **out)
{
    brt_config *config;
    CLI_TRY(brt_config_create(&config));
    brt_status status = fill(parsed, preset, file, config);
    if (status == BRT_OK)
        *out = config;
    else
        brt_config_close(config);
    return status;
}
