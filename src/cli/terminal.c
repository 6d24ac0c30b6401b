#include "cli/terminal.h"

#include "base/messages.h"
#include "base/progress.h"
#include "comm/comm.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static double shown; /* when progress was last shown */

static void show_message(void *data, enum dml_message_kind kind, const char *line) {
    (void)data;
    if (kind == DML_MESSAGE_WARNING)
        fprintf(stderr, "dml: %s\n", line);
    else
        puts(line);
    fflush(stdout);
}

static void format_time(char *out, size_t size, double seconds) {
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

static void show_bar(const struct dml_progress_report *p) {
    double rate = p->seconds > 0 ? (double)p->done / p->seconds : 0;
    char left[24];
    double remaining = rate > 0 ? (double)(p->total - p->done) / rate : 0;
    format_time(left, sizeof left, p->last ? p->seconds : remaining);
    const char *word = p->last ? "taken" : "left";
    const char *comma = p->note[0] ? ", " : "";
    if (isatty(STDERR_FILENO)) {
        char bar[25];
        size_t filled = p->total ? p->done * (sizeof bar - 1) / p->total : 0;
        memset(bar, '.', sizeof bar - 1);
        memset(bar, '#', filled);
        bar[sizeof bar - 1] = 0;
        fprintf(stderr, "\r\033[K%s [%s] %zu/%zu %.0f %s/s, %s %s%s%s%s", p->title, bar, p->done,
                p->total, rate, p->unit, left, word, comma, p->note, p->last ? "\n" : "");
    } else {
        fprintf(stderr, "%s: %zu/%zu %s, %.0f/s, %s %s%s%s\n", p->title, p->done, p->total, p->unit,
                rate, left, word, comma, p->note);
    }
    fflush(stderr);
    shown = dml_now();
}

static void show_progress(void *data, const struct dml_progress_report *p) {
    (void)data;
    bool terminal = isatty(STDERR_FILENO);
    if (p->first)
        shown = dml_now();
    else if (!terminal && p->brief)
        return; /* a log shows only the results */
    else if (p->last || dml_now() - shown >= (terminal ? 0.1 : 10))
        show_bar(p);
}

void dml_cli_show_messages(void) {
    /* mpirun gives ranks a terminal of its own, wherever their output goes in the end. */
    bool terminal = isatty(STDOUT_FILENO) && dml_comm_started(NULL) == 1;
    dml_messages_name_flags(true);
    dml_listen(&(struct dml_listener){
        .message = show_message, .progress = show_progress, .bold = terminal});
}
