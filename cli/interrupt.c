#define _GNU_SOURCE
#include "interrupt.h"

#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    if (interrupted)
        _exit(128 + number);
    interrupted = 1;
}

void cli_catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void)
{
    return interrupted;
}

static void on_bus_error(int number)
{
    static const char sentence[] = "brt: a file was cut short, or its disk failed, while it was being read\n";
    ssize_t written = write(STDERR_FILENO, sentence, sizeof sentence - 1);
    (void)number, (void)written;
    _exit(1);
}

void cli_explain_bus_errors(void)
{
    struct sigaction action = {.sa_handler = on_bus_error};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
