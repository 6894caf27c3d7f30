/*
 * base/err.c -- the error tree as a table indexed by number. A parent always has a smaller number
 * than its child (or is an errno), so that every walk to the root ends.
 */
#include "base/err.h"

#include "base/text.h"

#include <stdarg.h>
#include <string.h>

struct err_entry {
    int parent; /* positive: an errno or an ERR_ code */
    const char *name, *text;
};

#define ERR_ENTRY(parent_code, leaf, nr, what) [nr] = {(parent_code), "ERR_" #leaf, what},
static const struct err_entry err_table[] = {ERRORS(ERR_ENTRY)};

#define ERR_PARENT_CHECK(parent_code, leaf, nr, what)                                 \
    _Static_assert((parent_code) > 0 && (parent_code) < ERR_##leaf, "a parent comes " \
                                                                    "before " #leaf);
ERRORS(ERR_PARENT_CHECK)

/* NULL for an errno and for numbers that this version does not know. */
static const struct err_entry *err_find(int code)
{
    if (code <= ERR_BASE || (size_t)(code - ERR_BASE) >= ARRAY_COUNT(err_table)) {
        return NULL;
    }
    const struct err_entry *entry = &err_table[code - ERR_BASE];
    return entry->name != NULL ? entry : NULL;
}

/* Positive code of a negative result; 0 for success. INT_MIN has no positive and is no code of
 * ours. */
static int err_code(int rc)
{
    return rc >= 0 || rc < -(ERR_BASE * 2) ? 0 : -rc;
}

bool err_is(int rc, int class_code)
{
    int code = err_code(rc);
    while (code != 0 && code != class_code) {
        const struct err_entry *entry = err_find(code);
        code = entry != NULL ? entry->parent : 0;
    }
    return code != 0;
}

int err_to_errno(int rc)
{
    if (rc >= 0) {
        return 0;
    }
    int code = err_code(rc);
    for (const struct err_entry *entry = err_find(code); entry != NULL; entry = err_find(code)) {
        code = entry->parent;
    }
    return code > 0 && code < ERR_BASE ? code : EIO; /* a newer peer's code: at least an error */
}

const char *err_text(int rc)
{
    if (rc >= 0) {
        return "success";
    }
    const struct err_entry *entry = err_find(err_code(rc));
    if (entry != NULL) {
        return entry->text;
    }
    const char *text = strerrordesc_np(err_code(rc)); /* constant and untranslated */
    return text != NULL && err_code(rc) != 0 ? text : "unknown error";
}

const char *err_name(int rc)
{
    if (rc >= 0) {
        return "OK";
    }
    const struct err_entry *entry = err_find(err_code(rc));
    if (entry != NULL) {
        return entry->name;
    }
    const char *name = strerrorname_np(err_code(rc));
    return name != NULL && err_code(rc) != 0 ? name : "ERR_unknown";
}

/* "<formatted>: <tail>". A long context is cut, never the tail when there is room for it: the tail
 * is the cause. */
static void err_compose(struct err *e, const char *tail, const char *fmt, va_list args)
{
    char head[sizeof e->text];
    struct text h;
    text_init(&h, head, sizeof head);
    text_add_va(&h, fmt, args);

    char whole[sizeof e->text];
    size_t tail_len = strlen(tail);
    size_t room = sizeof whole - sizeof "...: "; /* for both, with the mark of a cut */
    size_t head_min = sizeof whole / 2;          /* a prefix that says where is worth half of it */
    size_t head_max = tail_len < room - head_min ? room - tail_len : head_min;
    bool cut = h.cut || h.len > head_max;
    int shown = (int)text_whole_utf8(head, h.len < head_max ? h.len : head_max);
    struct text w;
    text_init(&w, whole, sizeof whole);
    text_add(&w, "%.*s%s: ", shown, head, cut ? "..." : "");
    text_add(&w, "%s", tail);
    memcpy(e->text, whole, w.len + 1);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (e != NULL) {
        va_list args;
        va_start(args, fmt);
        err_compose(e, err_text(code), fmt, args);
        va_end(args);
        e->code = code;
    }
    return code;
}

int err_prefix(struct err *e, int code, const char *fmt, ...)
{
    if (e != NULL) {
        if (e->code == 0) {
            e->code = code;
        }
        char tail[sizeof e->text]; /* the arguments may point into e->text, err_compose writes it
                                      last */
        struct text t;
        text_init(&t, tail, sizeof tail);
        text_add(&t, "%s", err_message(e, e->code));
        va_list args;
        va_start(args, fmt);
        err_compose(e, tail, fmt, args);
        va_end(args);
    }
    return code;
}

const char *err_message(const struct err *e, int rc)
{
    return e != NULL && e->text[0] != '\0' ? e->text : err_text(rc);
}
