/* tree/check_text.c -- findings as lines; see check.h. */
#include "tree/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

const char *tree_finding_severity(const struct tree_finding *f)
{
    switch (f->severity) {
    case TREE_FINDING_NOTE:
        return "note";
    case TREE_FINDING_WARNING:
        return "warning";
    case TREE_FINDING_DAMAGE:
    default:
        return "damage";
    }
}

void tree_finding_text(char out[TREE_FINDING_TEXT], const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(out, TREE_FINDING_TEXT, fmt, args);
    va_end(args);
}

static void finding_number(struct tree_line *l, const char *name, uint64_t v)
{
    if (v != TREE_FINDING_NONE) {
        tree_line_number(l, name, v);
    }
}

static void finding_json(const struct tree_finding *f, struct tree_line *l)
{
    tree_line_text(l, "severity", tree_finding_severity(f));
    tree_line_text(l, "code", f->code);
    tree_line_text(l, "text", f->text);
    finding_number(l, "checkpoint", f->checkpoint);
    finding_number(l, "offset", f->offset);
    finding_number(l, "bytes", f->len);
    finding_number(l, "block", f->block);
    finding_number(l, "partition", f->partition);
    finding_number(l, "segment", f->segment);
    if (f->ranged) {
        tree_line_bytes(l, "low", f->low);
        tree_line_bytes(l, "high", f->high);
    }
    finding_number(l, "records", f->records);
    if (f->advice != NULL) {
        tree_line_text(l, "advice", f->advice);
    }
}

static void finding_say_number(struct tree_line *l, const char *name, uint64_t v)
{
    if (v != TREE_FINDING_NONE) {
        tree_line_say(l, "%s %" PRIu64 ", ", name, v);
    }
}

static void finding_say_keys(const struct tree_finding *f, struct tree_line *l)
{
    if (f->low.len == 0 && f->high.len == 0) {
        tree_line_say(l, "; all keys");
        return;
    }
    tree_line_say(l, "; keys ");
    if (f->low.len > 0) {
        tree_line_say(l, "from ");
        tree_line_say_bytes(l, f->low);
    }
    if (f->high.len > 0) {
        tree_line_say(l, f->low.len > 0 ? " to before " : "before ");
        tree_line_say_bytes(l, f->high);
    }
}

static void finding_say(const struct tree_finding *f, struct tree_line *l)
{
    tree_line_say(l, ": ");
    finding_say_number(l, "block", f->block);
    finding_say_number(l, "memtable segment", f->segment);
    finding_say_number(l, "partition", f->partition);
    finding_say_number(l, "offset", f->offset);
    tree_line_say(l, "%s", f->text);
    if (f->ranged) {
        finding_say_keys(f, l);
    }
    if (f->records != TREE_FINDING_NONE) {
        tree_line_say(l, "; about %" PRIu64 " records", f->records);
    }
    if (f->advice != NULL) {
        tree_line_say(l, "; %s", f->advice);
    }
}

int tree_finding_print(const struct tree_finding *f, struct tree_line *l,
                       const struct tree_lines *to)
{
    tree_line_begin(l, to, to->json ? "finding" : tree_finding_severity(f));
    if (to->json) {
        finding_json(f, l);
    } else {
        finding_say(f, l);
    }
    return tree_line_end(l, to);
}
