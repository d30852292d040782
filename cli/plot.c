#define _GNU_SOURCE
#include "plot.h"

#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char *const gnuplot_is_missing =
    "gnuplot draws the pictures and is not installed (Debian: apt-get install gnuplot-nox)";

/* gnuplot's terminal for the file's ending, or NULL. */
static const char *terminal_of(const char *path)
{
    const char *ending = strrchr(path, '.');
    if (ending && strcmp(ending, ".svg") == 0)
        return "svg size 900,560 noenhanced background rgb 'white' font 'sans,14'";
    if (ending && strcmp(ending, ".png") == 0)
        return "pngcairo size 1200,750 noenhanced font 'sans,14'";
    return NULL;
}

/* ---- the script ------------------------------------------------------------------------------------------------- */

/* In gnuplot's single quotes, where only a quote itself is special. */
static void write_quoted(FILE *to, const char *text)
{
    fputc('\'', to);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', to);
        fputc(*text == '\n' ? ' ' : *text, to);
    }
    fputc('\'', to);
}

static void write_setting(FILE *to, const char *setting, const char *text)
{
    fprintf(to, "set %s ", setting);
    write_quoted(to, text);
    fputc('\n', to);
}

static void write_data(FILE *to, size_t index, const plot_curve *curve)
{
    fprintf(to, "$curve%zu << end_of_data\n", index);
    for (size_t i = 0; i < curve->count; i++)
        fprintf(to, "%.9g %.9g\n", curve->x[i], curve->y[i]);
    fprintf(to, "end_of_data\n");
}

static void write_script(FILE *to, const plot *picture, const char *path)
{
    fprintf(to, "set terminal %s\n", terminal_of(path));
    write_setting(to, "title", picture->title);
    write_setting(to, "xlabel", picture->x_label);
    write_setting(to, "ylabel", picture->y_label);
    fprintf(to, "set grid lc rgb '#dddddd'\nset key top right\nset xrange [0:*]\n");
    for (size_t i = 0; i < picture->curve_count; i++)
        write_data(to, i, &picture->curves[i]);
    for (size_t i = 0; i < picture->curve_count; i++) {
        fprintf(to, "%s $curve%zu with %s lw 2 %s title ", i ? "," : "plot", i,
                picture->curves[i].dots ? "linespoints" : "lines", picture->curves[i].dots ? "pt 7 ps 0.6" : "");
        write_quoted(to, picture->curves[i].title);
    }
    fprintf(to, "\n");
}

/* ---- the program ------------------------------------------------------------------------------------------------ */

/* Starts gnuplot with `output` as its standard output; *input is the writing end of its standard input. */
static brt_status start_gnuplot(pid_t *child, int *input, int output)
{
    char program[] = "gnuplot", from_input[] = "-", *arguments[] = {program, from_input, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return cli_fail(BRT_ERROR_IO, "cannot make a pipe to gnuplot: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    int error = posix_spawnp(child, "gnuplot", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[0]);
    *input = ends[1];
    if (error == 0)
        return BRT_OK;
    close(ends[1]);
    return error == ENOENT ? cli_fail(BRT_ERROR_UNSUPPORTED, "%s", gnuplot_is_missing)
                           : cli_fail(BRT_ERROR_IO, "cannot start gnuplot: %s", strerror(error));
}

static bool finish_gnuplot(pid_t child, FILE *script)
{
    int status;
    bool written = script && !ferror(script);
    if (script)
        written = fclose(script) == 0 && written;
    pid_t ended;
    do
        ended = waitpid(child, &status, 0);
    while (ended < 0 && errno == EINTR);
    return ended == child && WIFEXITED(status) && WEXITSTATUS(status) == 0 && written;
}

/* What was in the file is dropped when gnuplot has started and not yet drawn: it waits for its script. */
static brt_status draw_into(const plot *picture, const char *path, int output)
{
    pid_t child;
    int input;
    CLI_TRY(start_gnuplot(&child, &input, output));
    bool emptied = ftruncate(output, 0) == 0;
    /* gnuplot may end before it has read all; that is then seen in its exit status. */
    signal(SIGPIPE, SIG_IGN);
    FILE *script = fdopen(input, "w");
    if (script)
        write_script(script, picture, path);
    else
        close(input);
    if (!finish_gnuplot(child, script) || !emptied)
        return cli_fail(BRT_ERROR_IO, "gnuplot could not draw %s", path);
    return BRT_OK;
}

brt_status plot_draw(const plot *picture, const char *path)
{
    if (!terminal_of(path))
        return cli_fail(BRT_ERROR_ARGUMENT, "%s: the name of a picture must end in .svg or .png", path);
    int output = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666); /* a pipe is not waited for */
    if (output < 0)
        return cli_fail(BRT_ERROR_IO, "cannot write %s: %s", path, strerror(errno));
    brt_status status = draw_into(picture, path, output);
    struct stat info;
    bool is_empty = fstat(output, &info) == 0 && S_ISREG(info.st_mode) && info.st_size == 0;
    close(output);
    if (is_empty)
        unlink(path);
    if (is_empty && status == BRT_OK) /* gnuplot does not tell of a full disk */
        return cli_fail(BRT_ERROR_IO, "gnuplot could not draw %s: nothing was written", path);
    return status;
}
