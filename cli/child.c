#define _GNU_SOURCE
#include "child.h"

#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char *const program = "/proc/self/exe";

static brt_status spawn(char *const *arguments, const char *output, pid_t *child)
{
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return cli_out_of_memory("a child");
    int error = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (error == 0)
        error = posix_spawn(child, program, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0)
        return cli_fail(BRT_ERROR_IO, "cannot run brt %s with results in %s: %s", arguments[1], output,
                        strerror(error));
    return BRT_OK;
}

static brt_status wait_for(pid_t child, int *status, uint64_t *peak_bytes)
{
    struct rusage usage;
    int wait_status;
    pid_t ended;
    do
        ended = wait4(child, &wait_status, 0, &usage);
    while (ended < 0 && errno == EINTR);
    if (ended < 0)
        return cli_fail(BRT_ERROR_IO, "cannot wait for a child: %s", strerror(errno));
    *status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
    *peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    return BRT_OK;
}

brt_status child_run(const char *const *words, const char *output, int *status, uint64_t *peak_bytes)
{
    size_t count = 0;
    while (words[count])
        count++;
    const char **arguments = calloc(count + 2, sizeof *arguments);
    if (!arguments)
        return cli_out_of_memory("a child");
    arguments[0] = "brt";
    memcpy(arguments + 1, words, count * sizeof *words);
    pid_t child;
    brt_status result = spawn((char *const *)arguments, output, &child);
    free(arguments);
    return result == BRT_OK ? wait_for(child, status, peak_bytes) : result;
}
