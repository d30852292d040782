/* Trains a small model on text files: train OUT_DIR FILE... */
#include <brt/brt.h>

#include <stdio.h>

static void show(void *user, const brt_run_progress *now)
{
    (void)user;
    if (now->step % 10 == 0)
        printf("step %llu: loss %.3f\n", (unsigned long long)now->step, now->loss);
}

static brt_status train(const char *out, const char *const *files, size_t file_count)
{
    brt_config *config = NULL;
    brt_model *model = NULL;
    brt_dataset *data = NULL;
    brt_dataset_options files_to_read = brt_dataset_options_init();
    brt_run_options options = brt_run_options_init();
    brt_run_callbacks callbacks = {.on_step = show};
    files_to_read.paths = files;
    files_to_read.path_count = file_count;
    options.out = out;
    options.steps = 100;
    brt_status status = brt_config_create(&config);
    if (status == BRT_OK)
        status = brt_config_preset(config, "tiny");
    if (status == BRT_OK)
        status = brt_run_options_preset(&options, "tiny");
    if (status == BRT_OK)
        status = brt_model_create(&model, config, options.seed);
    if (status == BRT_OK)
        status = brt_dataset_open(&data, &files_to_read);
    if (status == BRT_OK)
        status = brt_run(model, data, NULL, &options, &callbacks);
    brt_dataset_close(data);
    brt_model_close(model);
    brt_config_close(config);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s OUT_DIR FILE...\n", argv[0]);
        return 2;
    }
    if (train(argv[1], (const char *const *)argv + 2, (size_t)argc - 2) == BRT_OK)
        return 0;
    fprintf(stderr, "%s\n", brt_last_error());
    return 1;
}
