/* tree/line.c -- see line.h. */
#include "tree/line.h"

#include "base/mem.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_EXACT_MAX (UINT64_C(1) << 53)

static void line_add(struct tree_line *l, const char *text, size_t len)
{
    l->rc = l->rc < 0 ? l->rc : mem_grow(&l->at, &l->capacity, l->len + len + 1, 1);
    if (l->rc == 0) {
        memcpy(l->at + l->len, text, len);
        l->len += len;
        l->at[l->len] = 0;
    }
}

static void line_put(struct tree_line *l, const char *text)
{
    line_add(l, text, strlen(text));
}

/* Text that may be anything, inside of a JSON text. */
static void line_quoted(struct tree_line *l, const char *text)
{
    line_put(l, "\"");
    for (; *text != 0; text++) {
        char escape[8];
        unsigned char b = (unsigned char)*text;
        if (b == '"' || b == '\\') {
            line_put(l, "\\");
        }
        if (b < ' ') {
            snprintf(escape, sizeof escape, "\\u%04x", b);
            line_put(l, escape);
        } else {
            line_add(l, text, 1);
        }
    }
    line_put(l, "\"");
}

static void line_words(struct tree_line *l, const char *name)
{
    for (; *name != 0; name++) {
        line_add(l, *name == '_' && !l->json ? " " : name, 1);
    }
}

static void line_name(struct tree_line *l, const char *name)
{
    if (l->json) {
        line_put(l, ",\"");
        line_put(l, name);
        line_put(l, "\":");
        return;
    }
    bool own = l->what != NULL && strcmp(l->what, name) == 0;
    line_put(l, own ? "" : l->what != NULL ? ": " : ", ");
    l->what = NULL;
    line_words(l, own ? "" : name);
    line_put(l, " ");
}

void tree_line_begin(struct tree_line *l, const struct tree_lines *to, const char *what)
{
    l->json = to->json;
    l->what = what;
    l->len = 0;
    l->rc = 0;
    line_put(l, l->json ? "{\"what\":\"" : "");
    line_words(l, what);
    line_put(l, l->json ? "\"" : "");
}

void tree_line_number(struct tree_line *l, const char *name, uint64_t v)
{
    char text[32];
    bool quoted = l->json && v > LINE_EXACT_MAX;
    snprintf(text, sizeof text, quoted ? "\"%" PRIu64 "\"" : "%" PRIu64, v);
    line_name(l, name);
    line_put(l, text);
}

void tree_line_hex(struct tree_line *l, const char *name, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    line_name(l, name);
    line_put(l, l->json ? "\"" : "");
    for (size_t i = 0; i < len; i++) {
        char digits[3];
        text_hex(digits, at + i, 1);
        line_put(l, digits);
    }
    line_put(l, l->json ? "\"" : "");
}

void tree_line_text(struct tree_line *l, const char *name, const char *text)
{
    line_name(l, name);
    if (l->json) {
        line_quoted(l, text);
    } else {
        line_put(l, text);
    }
}

static void line_escaped(struct tree_line *l, struct kv_slice bytes)
{
    const uint8_t *at = bytes.at;
    line_put(l, "\"");
    for (size_t i = 0; i < bytes.len; i++) {
        char item[8];
        bool plain = at[i] >= ' ' && at[i] <= '~' && at[i] != '\\' && at[i] != '"';
        snprintf(item, sizeof item, plain ? "%c" : l->json ? "\\\\x%02x" : "\\x%02x", at[i]);
        line_put(l, item);
    }
    line_put(l, "\"");
}

void tree_line_bytes(struct tree_line *l, const char *name, struct kv_slice bytes)
{
    line_name(l, name);
    line_escaped(l, bytes);
}

void tree_line_say(struct tree_line *l, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    line_put(l, l->json ? "" : text);
}

void tree_line_say_bytes(struct tree_line *l, struct kv_slice bytes)
{
    if (!l->json) {
        line_escaped(l, bytes);
    }
}

int tree_line_end(struct tree_line *l, const struct tree_lines *to)
{
    line_put(l, l->json ? "}" : "");
    if (l->rc == 0) {
        to->line(to->arg, l->at, l->len);
    }
    return l->rc;
}

void tree_line_fini(struct tree_line *l)
{
    mem_freep(&l->at);
    l->capacity = l->len = 0;
}
