/* cli/terminal.c -- see terminal.h. */
#include "cli/terminal.h"

#include "base/lock.h"
#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW_NS 100000000u
#define NS_PER_S 1000000000u
#define LINE_MAX_COLUMNS 250u

struct cli_terminal {
    struct lock lock;
    bool is_one, colour, shown;
    uint64_t drawn_ns;
    char line[LINE_MAX_COLUMNS + 1];
};

struct cli_terminal *cli_terminal_new(void)
{
    struct cli_terminal *t = mem_zalloc(sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    lock_init(&t->lock, LOCK_RANK_leaf);
    const char *term = getenv("TERM");
    t->is_one = isatty(STDERR_FILENO) == 1 && (term == NULL || strcmp(term, "dumb") != 0);
    t->colour = t->is_one && getenv("NO_COLOR") == NULL;
    return t;
}

struct cli_terminal *cli_terminal_free(struct cli_terminal *t)
{
    if (t != NULL) {
        cli_terminal_clear(t);
        lock_fini(&t->lock);
        mem_free(t);
    }
    return NULL;
}

bool cli_terminal_is_one(const struct cli_terminal *t)
{
    return t->is_one;
}

bool cli_terminal_has_colour(const struct cli_terminal *t)
{
    return t->colour;
}

static size_t columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return base_min(size.ws_col, LINE_MAX_COLUMNS);
    }
    return 80;
}

static void wipe(struct cli_terminal *t)
{
    if (t->shown) {
        fputs("\r\033[K", stderr);
        t->shown = false;
    }
}

static void draw(struct cli_terminal *t)
{
    fprintf(stderr, "\r%.*s\033[K", (int)(columns() - 1), t->line);
    t->shown = true;
    fflush(stderr);
}

void cli_terminal_say(struct cli_terminal *t, const char *text)
{
    lock_take(&t->lock);
    bool again = t->shown;
    wipe(t);
    fprintf(stderr, "%s\n", text);
    if (again) {
        draw(t);
    }
    lock_release(&t->lock);
}

void cli_terminal_clear(struct cli_terminal *t)
{
    lock_take(&t->lock);
    wipe(t);
    fflush(stderr);
    lock_release(&t->lock);
}

size_t cli_terminal_progress_to_text(const struct terminal_progress *p, char *out, size_t size)
{
    struct text t;
    char a[TEXT_UNIT_SIZE], b[TEXT_UNIT_SIZE];
    text_init(&t, out, size);
    text_add(&t, "%s", p->what);
    double seconds = (double)(p->now_ns - p->start_ns) / NS_PER_S;
    double rate = seconds > 0 ? (double)p->bytes_done / seconds : 0;
    if (p->bytes_total > 0) {
        double share = (double)p->bytes_done / (double)p->bytes_total;
        text_add(&t, "  %3.0f%%  %s of %s", 100 * (share > 1 ? 1 : share),
                 text_from_bytes(p->bytes_done, a), text_from_bytes(p->bytes_total, b));
    } else {
        text_add(&t, "  %s", text_from_bytes(p->bytes_done, a));
    }
    text_add(&t, "  %s/s", text_from_bytes((uint64_t)rate, a));
    if (p->files_total > 0) {
        text_add(&t, "  %llu of %llu files", (unsigned long long)p->files_done,
                 (unsigned long long)p->files_total);
    } else if (p->files_done > 0) {
        text_add(&t, "  %llu files", (unsigned long long)p->files_done);
    }
    if (p->bytes_total > p->bytes_done && rate > 0 && seconds > 1) {
        double left = (double)(p->bytes_total - p->bytes_done) / rate;
        text_add(&t, "  %s left", text_from_ms(1000 * (uint64_t)(left + 1), a));
    }
    return t.len;
}

void cli_terminal_show(struct cli_terminal *t, const struct terminal_progress *p, bool at_once)
{
    if (!t->is_one) {
        return;
    }
    lock_take(&t->lock);
    if (at_once || p->now_ns - t->drawn_ns >= REDRAW_NS) {
        t->drawn_ns = p->now_ns;
        cli_terminal_progress_to_text(p, t->line, sizeof t->line);
        draw(t);
    }
    lock_release(&t->lock);
}
