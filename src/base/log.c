/*
 * base/log.c -- turns fields into one bounded line of text on the stack and hands it to the sink.
 * Nothing that came from a user, disk or peer can break out of its field: what could be mistaken
 * for syntax is quoted and escaped.
 */
#include "base/log.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdatomic.h>
#include <string.h>

#define LOG_MARK "..."

struct log {
    struct log_sink *sink; /* may be NULL */
    uint64_t (*wall_ns)(void *clock);
    void *clock;
    _Atomic int level; /* enum log_level; set from any thread */
    char node[];
};

struct log *log_new(const struct log_options *opt)
{
    const char *node = opt->node != NULL ? opt->node : "";
    size_t node_size = strlen(node) + 1;
    struct log *l = mem_zalloc(sizeof *l + node_size);
    if (l != NULL) {
        l->sink = opt->sink;
        l->wall_ns = opt->wall_ns;
        l->clock = opt->clock;
        atomic_init(&l->level, (int)opt->level);
        memcpy(l->node, node, node_size);
    }
    return l;
}

struct log *log_free(struct log *l)
{
    mem_free(l);
    return NULL;
}

void log_set_level(struct log *l, enum log_level level)
{
    atomic_store_explicit(&l->level, (int)level, memory_order_relaxed);
}

bool log_wants(const struct log *l, enum log_level level)
{
    return l != NULL && l->sink != NULL &&
           (int)level <= atomic_load_explicit(&l->level, memory_order_relaxed);
}

const char *log_level_name(enum log_level level)
{
    switch (level) {
    case LOG_ERROR:
        return "error";
    case LOG_WARN:
        return "warn";
    case LOG_INFO:
        return "info";
    case LOG_DEBUG:
        return "debug";
    }
    return "unknown";
}

/* The escape of one byte, as text in `out`, which has room for 5. Returns its length. */
static size_t log_escape_byte(uint8_t byte, char *out)
{
    static const char from[] = "\n\r\t", to[] = "nrt";
    const char *short_form = byte != 0 ? strchr(from, byte) : NULL;
    out[0] = '\\';
    if (short_form != NULL) {
        out[1] = to[short_form - from];
        return 2;
    }
    out[1] = 'x';
    text_hex(out + 2, &byte, 1);
    return 4;
}

/* C0 and C1 control characters: a terminal would obey them. */
static bool log_is_control(const char *at, size_t len)
{
    uint8_t first = (uint8_t)at[0];
    return len == 1 ? first < 0x20 || first == 0x7f : first == 0xc2 && (uint8_t)at[1] < 0xa0;
}

/* Adds text as it stands but for control characters, broken UTF-8 and, inside quotes, '"' and '\\'.
 */
static void log_add_escaped(struct text *t, const char *at, bool quoted)
{
    const char *end = at + strnlen(at, t->size); /* what cannot fit is not looked at */
    while (at < end && !t->cut) {
        size_t len = text_utf8_len(at, (size_t)(end - at));
        if (len == 0 || log_is_control(at, len)) {
            char escape[5];
            text_add_whole(t, escape, log_escape_byte((uint8_t)*at, escape));
            at++; /* a C1 character takes two turns: its second byte alone is not UTF-8 */
            continue;
        }
        if (quoted && (*at == '"' || *at == '\\')) {
            char escape[2] = {'\\', *at};
            text_add_whole(t, escape, sizeof escape);
        } else {
            text_add_whole(t, at, len);
        }
        at += len;
    }
}

static bool log_needs_quotes(const char *value, size_t limit)
{
    size_t len = strnlen(value, limit);
    for (size_t i = 0; i < len;) {
        size_t step = text_utf8_len(value + i, len - i);
        /* Cut inside a character by `limit`: it will not fit anyway. */
        if (step == 0 || log_is_control(value + i, step) || strchr(" \"\\=", value[i]) != NULL) {
            return true;
        }
        i += step;
    }
    return len == 0;
}

static void log_add_text(struct text *t, const char *value)
{
    if (value == NULL) {
        text_add_whole(t, "-", 1);
        return;
    }
    if (!log_needs_quotes(value, t->size)) {
        log_add_escaped(t, value, false);
        return;
    }
    text_add_whole(t, "\"", 1);
    log_add_escaped(t, value, true);
    text_add_whole(t, "\"", 1);
}

static void log_add_field(struct text *t, const struct log_field *f)
{
    text_add(t, "%s%s=", t->len > 0 ? " " : "", f->name);
    switch (f->kind) {
    case LOG_KIND_TEXT:
        log_add_text(t, f->value.text);
        break;
    case LOG_KIND_U64:
        text_add(t, "%llu", (unsigned long long)f->value.u64);
        break;
    case LOG_KIND_I64:
        text_add(t, "%lld", (long long)f->value.i64);
        break;
    case LOG_KIND_HEX:
        text_add(t, "0x%llx", (unsigned long long)f->value.u64);
        break;
    case LOG_KIND_END:
        break;
    }
}

/* `t` was made LOG_MARK shorter than its memory. */
static void log_mark_cut(struct text *t)
{
    if (t->cut) {
        memcpy(t->at + t->len, LOG_MARK, sizeof LOG_MARK);
        t->len += sizeof LOG_MARK - 1;
    }
}

void log_write(struct log *l, enum log_level level, uint64_t trace, const char *message,
               const struct log_field *fields)
{
    if (!log_wants(l, level)) {
        return;
    }
    char memory[LOG_LINE_SIZE];
    struct text t;
    text_init(&t, memory, sizeof memory - (sizeof LOG_MARK - 1));
    for (const struct log_field *f = fields; f != NULL && f->kind != LOG_KIND_END && !t.cut; f++) {
        log_add_field(&t, f);
    }
    log_mark_cut(&t);
    const struct log_line line = {
        .level = level,
        .wall_ns = l->wall_ns != NULL ? l->wall_ns(l->clock) : 0,
        .trace = trace,
        .node = l->node,
        .message = message,
        .fields = memory,
    };
    l->sink->write(l->sink, &line);
}

size_t log_line_to_text(const struct log_line *line, char *out, size_t size)
{
    size_t mark = size > sizeof LOG_MARK ? sizeof LOG_MARK - 1 : 0;
    struct text t;
    text_init(&t, out, size - mark);
    text_add_time(&t, line->wall_ns / 1000000);
    text_add(&t, " %s ", log_level_name(line->level));
    if (line->node[0] != '\0') {
        log_add_escaped(&t, line->node, false);
        text_add_whole(&t, " ", 1);
    }
    log_add_escaped(&t, line->message, false);
    if (line->trace != 0) {
        text_add(&t, " trace=%016llx", (unsigned long long)line->trace);
    }
    if (line->fields[0] != '\0') {
        text_add(&t, " %s", line->fields);
    }
    if (mark > 0) {
        log_mark_cut(&t);
    }
    return t.len;
}
