/* history/history.c -- see history.h. */
#include "history.h"

#include "base/mem.h"
#include "base/text.h"

#include <string.h>

static const char *const kind_names[HISTORY_KIND_COUNT] = {
#define HISTORY_TEXT(upper, name) [HISTORY_##upper] = #name,
    HISTORY_KINDS(HISTORY_TEXT)
#undef HISTORY_TEXT
};
static const char *const type_names[] = {[HISTORY_NOTHING] = "nothing",
                                         [HISTORY_FILE] = "file",
                                         [HISTORY_DIRECTORY] = "directory",
                                         [HISTORY_LINK_TO] = "symlink"};
static const char *const flag_names[] = {"", "noreplace", "exchange"};

void history_init(struct history *h)
{
    *h = (struct history){0};
}

void history_fini(struct history *h)
{
    mem_free(h->op);
    mem_free(h->event);
    history_init(h);
}

const char *history_kind_name(enum history_kind kind)
{
    return kind_names[kind];
}

const char *history_type_name(enum history_type type)
{
    return type_names[type];
}

bool history_is_question(enum history_kind kind)
{
    return kind == HISTORY_STAT || kind == HISTORY_LIST || kind == HISTORY_READLINK ||
           kind == HISTORY_READ;
}

int history_name(struct history *h, const char *at, size_t len)
{
    if (len == 0 || len >= HISTORY_NAME_SIZE) {
        return -EINVAL;
    }
    for (size_t i = 0; i < len; i++) {
        bool plain = (at[i] >= 'a' && at[i] <= 'z') || (at[i] >= '0' && at[i] <= '9') ||
                     (at[i] >= 'A' && at[i] <= 'Z') || at[i] == '_' || at[i] == '-';
        if (!plain) {
            return -EINVAL;
        }
    }
    for (unsigned i = 0; i < h->name_count; i++) {
        if (strlen(h->name[i]) == len && memcmp(h->name[i], at, len) == 0) {
            return (int)i;
        }
    }
    if (h->name_count == HISTORY_NAMES) {
        return -E2BIG;
    }
    memcpy(h->name[h->name_count], at, len);
    h->name[h->name_count][len] = 0;
    return (int)h->name_count++;
}

int history_path(struct history *h, const char *text, struct history_path *ret)
{
    struct history_path p = {0};
    if (text[0] != '/') {
        return -EINVAL;
    }
    text++;
    while (*text != 0) {
        size_t len = strcspn(text, "/");
        int name = history_name(h, text, len);
        if (name < 0) {
            return name;
        }
        if (p.depth == HISTORY_DEPTH) {
            return -E2BIG;
        }
        p.name[p.depth++] = (uint8_t)name;
        text += len;
        if (*text == '/' && *++text == 0) {
            return -EINVAL;
        }
    }
    *ret = p;
    return 0;
}

static int add_event(struct history *h, size_t op, bool end)
{
    int rc = mem_grow(&h->event, &h->event_capacity, h->event_count + 1, sizeof *h->event);
    if (rc == 0) {
        h->event[h->event_count++] = (struct history_event){.op = (uint32_t)op, .end = end};
    }
    return rc;
}

int history_begin(struct history *h, const struct history_op *op, size_t *ret)
{
    if (h->op_count == HISTORY_OPS) {
        return -E2BIG;
    }
    int rc = mem_grow(&h->op, &h->op_capacity, h->op_count + 1, sizeof *h->op);
    rc = rc < 0 ? rc : add_event(h, h->op_count, false);
    if (rc == 0) {
        h->op[h->op_count] = *op;
        h->op[h->op_count].outcome = HISTORY_OPEN;
        *ret = h->op_count++;
    }
    return rc;
}

int history_end(struct history *h, size_t op)
{
    CHECK(op < h->op_count && h->op[op].outcome != HISTORY_OPEN);
    return add_event(h, op, true);
}

/* ---- Text ---- */

void history_path_to_text(const struct history *h, const struct history_path *p, struct text *t)
{
    for (unsigned i = 0; i < p->depth; i++) {
        text_add(t, "/%s", h->name[p->name[i]]);
    }
    text_add(t, "%s", p->depth == 0 ? "/" : "");
}

static void arguments(const struct history *h, const struct history_op *op, struct text *t)
{
    text_add(t, ",\"path\":\"");
    history_path_to_text(h, &op->path, t);
    text_add(t, "\"");
    if (op->kind == HISTORY_RENAME || op->kind == HISTORY_LINK) {
        text_add(t, ",\"to\":\"");
        history_path_to_text(h, &op->to, t);
        text_add(t, "\"");
    }
    if (op->kind == HISTORY_RENAME) {
        text_add(t, ",\"flags\":\"%s\"", flag_names[op->flags]);
    }
    if (op->kind == HISTORY_CREATE || op->kind == HISTORY_MKDIR || op->kind == HISTORY_CHMOD) {
        text_add(t, ",\"mode\":%u", op->mode);
    }
    if (op->kind == HISTORY_CREATE || op->kind == HISTORY_SYMLINK || op->kind == HISTORY_WRITE) {
        text_add(t, ",\"data\":%u", op->data);
    }
}

static void answer(const struct history *h, const struct history_op *op, struct text *t)
{
    if (op->ino != 0) {
        text_add(t, ",\"ino\":%u", op->ino);
    }
    if (op->kind == HISTORY_STAT) {
        text_add(t, ",\"kind\":\"%s\",\"mode\":%u,\"nlink\":%u", type_names[op->type], op->got_mode,
                 op->nlink);
    }
    if (op->kind == HISTORY_READ || op->kind == HISTORY_READLINK) {
        text_add(t, ",\"data\":%u", op->got);
    }
    if (op->kind == HISTORY_LIST) {
        text_add(t, ",\"entries\":\"");
        for (unsigned i = 0; i < op->entry_count; i++) {
            const struct history_entry *e = &op->entry[i];
            text_add(t, "%s%s:%s:%u", i > 0 ? " " : "", h->name[e->name], type_names[e->type],
                     e->ino);
        }
        text_add(t, "\"");
    }
}

void history_op_to_text(const struct history *h, const struct history_op *op, struct text *t)
{
    text_add(t, "process %u %s", op->process, kind_names[op->kind]);
    arguments(h, op, t);
    text_add(t, " -> %s",
             op->outcome == HISTORY_OPEN ? "unknown"
             : op->outcome == HISTORY_OK ? "ok"
                                         : err_name(-op->error));
    if (op->outcome == HISTORY_OK) {
        answer(h, op, t);
    }
}

static void event_to_text(const struct history *h, const struct history_event *e, struct text *t)
{
    const struct history_op *op = &h->op[e->op];
    const char *type = !e->end ? "invoke" : op->outcome == HISTORY_OK ? "ok" : "fail";
    text_add(t, "{\"type\":\"%s\",\"process\":%u,\"time\":%llu,\"f\":\"%s\"", type, op->process,
             (unsigned long long)(e->end ? op->end_ns : op->begin_ns), kind_names[op->kind]);
    if (!e->end) {
        arguments(h, op, t);
    } else if (op->outcome == HISTORY_OK) {
        answer(h, op, t);
    } else {
        text_add(t, ",\"error\":\"%s\"", err_name(-op->error));
    }
    text_add(t, "}");
}

int history_write(const struct history *h, FILE *to)
{
    char line[HISTORY_LINE_MAX];
    struct text t;
    (void)fprintf(to, "{\"type\":\"header\",\"format\":\"opendfs-history\",\"version\":1}\n");
    for (size_t i = 0; i < h->event_count; i++) {
        text_init(&t, line, sizeof line);
        event_to_text(h, &h->event[i], &t);
        CHECK(!t.cut);
        (void)fprintf(to, "%s\n", line);
    }
    return fflush(to) != 0 || ferror(to) != 0 ? -EIO : 0;
}
