/*
 * cli/terminal.h -- a line of progress at the bottom of a terminal; nothing where there is none.
 *
 * Any thread; calls are serialised inside. Drawing happens at most ten times a second.
 */
#pragma once

#include "base/base.h"

struct cli_terminal;
NODISCARD struct cli_terminal *cli_terminal_new(void);          /* of standard error */
struct cli_terminal *cli_terminal_free(struct cli_terminal *t); /* takes the progress line away */
DEFINE_FREEP(cli_terminal)

bool cli_terminal_is_one(const struct cli_terminal *t);
bool cli_terminal_has_colour(const struct cli_terminal *t); /* NO_COLOR and TERM=dumb say no */

/* A message above the progress line; ends with a newline by itself. */
void cli_terminal_say(struct cli_terminal *t, const char *text);

struct terminal_progress {
    const char *what;                 /* "put" */
    uint64_t bytes_done, bytes_total; /* total 0: not known yet */
    uint64_t files_done, files_total;
    uint64_t now_ns, start_ns;
};
/* "put  41%  1.2 GiB of 2.9 GiB  312.4 MiB/s  1,204 files  6 s left". */
void cli_terminal_show(struct cli_terminal *t, const struct terminal_progress *p, bool at_once);
void cli_terminal_clear(struct cli_terminal *t);
/* The line of above as text; for tests. Rate and remaining time come from the average so far. */
size_t cli_terminal_progress_to_text(const struct terminal_progress *p, char *out, size_t size);
