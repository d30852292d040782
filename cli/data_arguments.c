#include "data_arguments.h"

brt_status cli_open_data(const cli_paths *paths, const char *format, const char *split, const brt_config *config,
                         brt_dataset **out)
{
    brt_dataset_options options = brt_dataset_options_init();
    options.paths = paths->items;
    options.path_count = paths->count;
    options.split = split;
    options.num_tokens = (size_t)brt_config_get(config, "num_tokens");
    if (format)
        options.format = format;
    return brt_dataset_open(out, &options);
}
