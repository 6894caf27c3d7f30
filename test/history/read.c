/*
 * history/read.c -- the reader of histories. A line is one flat object of JSON: values are strings
 * without escapes, and whole numbers. Keys that are not known are passed over.
 */
#include "history.h"

#include "base/mem.h"
#include "base/text.h"

#include <string.h>

#define FIELDS 16u

struct field {
    const char *key, *value;
    size_t key_len, value_len;
    bool is_text;
};
struct line {
    struct field field[FIELDS];
    unsigned count;
};
struct reader {
    struct history *h;
    uint32_t *under_way; /* by process: operation + 1; 0: none */
    size_t process_capacity, process_count;
    uint64_t last_ns;
    size_t number; /* of the line */
    bool header;
};

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r')) {
        at++;
    }
    return at;
}

/* Behind the final quote; NULL: it is no string. */
static const char *parse_text(const char *at, const char *end, const char **ret, size_t *ret_len)
{
    if (at == end || *at != '"') {
        return NULL;
    }
    *ret = ++at;
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= ' ') {
        at++;
    }
    *ret_len = (size_t)(at - *ret);
    return at < end && *at == '"' ? at + 1 : NULL;
}

static const char *parse_value(const char *at, const char *end, struct field *f)
{
    f->is_text = at < end && *at == '"';
    if (f->is_text) {
        return parse_text(at, end, &f->value, &f->value_len);
    }
    f->value = at;
    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    f->value_len = (size_t)(at - f->value);
    return f->value_len == 0 ? NULL : at;
}

static const char *parse_field(const char *at, const char *end, struct field *f)
{
    at = parse_text(skip_blanks(at, end), end, &f->key, &f->key_len);
    if (at == NULL) {
        return NULL;
    }
    at = skip_blanks(at, end);
    if (at == end || *at != ':') {
        return NULL;
    }
    at = parse_value(skip_blanks(at + 1, end), end, f);
    return at == NULL ? NULL : skip_blanks(at, end);
}

static bool parse_line(const char *at, const char *end, struct line *l)
{
    l->count = 0;
    at = skip_blanks(at, end);
    if (at == end || *at++ != '{') {
        return false;
    }
    bool more = true;
    while (more) {
        if (l->count == FIELDS || (at = parse_field(at, end, &l->field[l->count])) == NULL ||
            at == end) {
            return false;
        }
        l->count++;
        more = *at == ',';
        if (!more && *at != '}') {
            return false;
        }
        at++;
    }
    return skip_blanks(at, end) == end;
}

static const struct field *find(const struct line *l, const char *key)
{
    for (unsigned i = 0; i < l->count; i++) {
        if (l->field[i].key_len == strlen(key) &&
            memcmp(l->field[i].key, key, l->field[i].key_len) == 0) {
            return &l->field[i];
        }
    }
    return NULL;
}

static bool field_is(const struct field *f, const char *text)
{
    return f != NULL && f->is_text && f->value_len == strlen(text) &&
           memcmp(f->value, text, f->value_len) == 0;
}

static bool digits_to_u64(const char *at, size_t len, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < len; i++) {
        if (at[i] < '0' || at[i] > '9' || v > (UINT64_MAX - 9) / 10) {
            return false;
        }
        v = v * 10 + (uint64_t)(at[i] - '0');
    }
    *ret = v;
    return len > 0;
}

static bool number_of(const struct line *l, const char *key, uint64_t max, uint64_t *ret)
{
    const struct field *f = find(l, key);
    return f != NULL && !f->is_text && digits_to_u64(f->value, f->value_len, ret) && *ret <= max;
}

static bool u32_of(const struct line *l, const char *key, uint32_t *ret)
{
    uint64_t v;
    if (!number_of(l, key, UINT32_MAX, &v)) {
        return false;
    }
    *ret = (uint32_t)v;
    return true;
}

static bool path_of(struct reader *r, const struct line *l, const char *key,
                    struct history_path *ret)
{
    char text[HISTORY_DEPTH * (HISTORY_NAME_SIZE + 1) + 1];
    const struct field *f = find(l, key);
    if (f == NULL || !f->is_text || f->value_len >= sizeof text) {
        return false;
    }
    memcpy(text, f->value, f->value_len);
    text[f->value_len] = 0;
    return strlen(text) == f->value_len && history_path(r->h, text, ret) == 0;
}

static bool type_of(const char *at, size_t len, enum history_type *ret)
{
    for (enum history_type t = HISTORY_FILE; t <= HISTORY_LINK_TO; t++) {
        const char *name = history_type_name(t);
        if (strlen(name) == len && memcmp(name, at, len) == 0) {
            *ret = t;
            return true;
        }
    }
    return false;
}

static bool kind_of(const struct line *l, enum history_kind *ret)
{
    const struct field *f = find(l, "f");
    for (unsigned k = 0; k < HISTORY_KIND_COUNT; k++) {
        if (field_is(f, history_kind_name((enum history_kind)k))) {
            *ret = (enum history_kind)k;
            return true;
        }
    }
    return false;
}

static bool error_of(const struct line *l, int *ret)
{
    static const int known[] = {EPERM,     ENOENT,     EIO,          EAGAIN,  ENOMEM,   EACCES,
                                EBUSY,     EEXIST,     EXDEV,        ENODEV,  ENOTDIR,  EISDIR,
                                EINVAL,    EFBIG,      ENOSPC,       EROFS,   EMLINK,   ENOTEMPTY,
                                ELOOP,     ENODATA,    ESTALE,       EDQUOT,  ERANGE,   ENOSYS,
                                ETIMEDOUT, EOPNOTSUPP, ENAMETOOLONG, EUCLEAN, ECANCELED};
    const struct field *f = find(l, "error");
    for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
        if (field_is(f, err_name(-known[i]))) {
            *ret = known[i];
            return true;
        }
    }
    return false;
}

/* "name:type:number", up to the next blank. */
static bool parse_entry(struct reader *r, const char *at, size_t len, struct history_entry *ret)
{
    const char *end = at + len;
    const char *type = memchr(at, ':', len);
    const char *ino = type == NULL ? NULL : memchr(type + 1, ':', (size_t)(end - type - 1));
    uint64_t v;
    if (ino == NULL) {
        return false;
    }
    int name = history_name(r->h, at, (size_t)(type - at));
    if (name < 0 || !type_of(type + 1, (size_t)(ino - type - 1), &ret->type) ||
        !digits_to_u64(ino + 1, (size_t)(end - ino - 1), &v) || v > UINT32_MAX) {
        return false;
    }
    ret->name = (uint8_t)name;
    ret->ino = (uint32_t)v;
    return true;
}

static bool entries_of(struct reader *r, const struct line *l, struct history_op *op)
{
    const struct field *f = find(l, "entries");
    if (f == NULL || !f->is_text) {
        return false;
    }
    const char *at = f->value, *end = f->value + f->value_len;
    bool seen[HISTORY_NAMES] = {0};
    struct history_entry by_name[HISTORY_NAMES];
    while (at < end) {
        const char *blank = memchr(at, ' ', (size_t)(end - at));
        size_t len = (size_t)((blank == NULL ? end : blank) - at);
        struct history_entry e;
        if (!parse_entry(r, at, len, &e) || seen[e.name]) {
            return false;
        }
        seen[e.name] = true;
        by_name[e.name] = e;
        at += len + (blank == NULL ? 0 : 1);
    }
    op->entry_count = 0;
    for (unsigned i = 0; i < HISTORY_NAMES; i++) {
        if (seen[i]) {
            op->entry[op->entry_count++] = by_name[i];
        }
    }
    return true;
}

/* ---- Lines ---- */

static bool asked(struct reader *r, const struct line *l, struct history_op *op)
{
    if (!kind_of(l, &op->kind) || !path_of(r, l, "path", &op->path)) {
        return false;
    }
    if (op->kind == HISTORY_RENAME || op->kind == HISTORY_LINK) {
        if (!path_of(r, l, "to", &op->to) || op->to.depth == 0) {
            return false;
        }
    }
    if (op->kind == HISTORY_RENAME) {
        const struct field *f = find(l, "flags");
        op->flags = field_is(f, "noreplace")  ? HISTORY_NOREPLACE
                    : field_is(f, "exchange") ? HISTORY_EXCHANGE
                                              : 0;
        if (op->flags == 0 && f != NULL && !field_is(f, "")) {
            return false;
        }
    }
    bool mode =
        op->kind == HISTORY_CREATE || op->kind == HISTORY_MKDIR || op->kind == HISTORY_CHMOD;
    bool data =
        op->kind == HISTORY_CREATE || op->kind == HISTORY_SYMLINK || op->kind == HISTORY_WRITE;
    bool rooted = op->kind == HISTORY_STAT || op->kind == HISTORY_LIST;
    return (!mode || (u32_of(l, "mode", &op->mode) && op->mode <= 07777)) &&
           (!data || u32_of(l, "data", &op->data)) && (rooted || op->path.depth > 0);
}

static bool answered(struct reader *r, const struct line *l, struct history_op *op)
{
    const struct field *type = find(l, "kind");
    if (find(l, "ino") != NULL && !u32_of(l, "ino", &op->ino)) {
        return false;
    }
    switch (op->kind) {
    case HISTORY_STAT:
        return type != NULL && type->is_text && type_of(type->value, type->value_len, &op->type) &&
               u32_of(l, "mode", &op->got_mode) && u32_of(l, "nlink", &op->nlink);
    case HISTORY_READ:
    case HISTORY_READLINK:
        return u32_of(l, "data", &op->got);
    case HISTORY_LIST:
        return entries_of(r, l, op);
    case HISTORY_CREATE:
    case HISTORY_MKDIR:
    case HISTORY_SYMLINK:
    case HISTORY_UNLINK:
    case HISTORY_RMDIR:
    case HISTORY_RENAME:
    case HISTORY_LINK:
    case HISTORY_CHMOD:
    case HISTORY_WRITE:
    case HISTORY_KIND_COUNT:
        break;
    }
    return true;
}

static int begins(struct reader *r, const struct line *l, uint32_t process, uint64_t ns)
{
    struct history_op op = {.process = process, .begin_ns = ns};
    size_t at;
    int rc =
        mem_grow(&r->under_way, &r->process_capacity, (size_t)process + 1, sizeof *r->under_way);
    if (rc < 0) {
        return rc;
    }
    while (r->process_count <= process) {
        r->under_way[r->process_count++] = 0;
    }
    if (r->under_way[process] != 0 || !asked(r, l, &op)) {
        return -EINVAL;
    }
    rc = history_begin(r->h, &op, &at);
    if (rc == 0) {
        r->under_way[process] = (uint32_t)at + 1;
    }
    return rc;
}

static int ends(struct reader *r, const struct line *l, uint32_t process, uint64_t ns)
{
    if (process >= r->process_count || r->under_way[process] == 0) {
        return -EINVAL;
    }
    size_t at = r->under_way[process] - 1;
    struct history_op *op = &r->h->op[at];
    enum history_kind kind;
    if (find(l, "f") != NULL && (!kind_of(l, &kind) || kind != op->kind)) {
        return -EINVAL;
    }
    if (field_is(find(l, "type"), "info")) {
        return 0; /* it stays under way for ever, and with it the process */
    }
    bool good = field_is(find(l, "type"), "ok");
    struct history_op ended = *op;
    if (good ? !answered(r, l, &ended) : !error_of(l, &ended.error)) {
        return -EINVAL;
    }
    ended.outcome = good ? HISTORY_OK : HISTORY_FAILED;
    ended.end_ns = ns;
    *op = ended;
    r->under_way[process] = 0;
    return history_end(r->h, at);
}

static int take_line(struct reader *r, const char *at, const char *end)
{
    struct line l;
    uint64_t process = 0, ns = 0;
    if (skip_blanks(at, end) == end) {
        return 0;
    }
    if (!parse_line(at, end, &l)) {
        return -EINVAL;
    }
    const struct field *type = find(&l, "type");
    if (!r->header) {
        r->header = field_is(type, "header") && field_is(find(&l, "format"), "opendfs-history") &&
                    number_of(&l, "version", 1, &ns) && ns == 1;
        return r->header ? 0 : -EINVAL;
    }
    if (!number_of(&l, "process", HISTORY_PROCESSES - 1, &process) ||
        !number_of(&l, "time", UINT64_MAX, &ns) || ns < r->last_ns) {
        return -EINVAL;
    }
    r->last_ns = ns;
    if (field_is(type, "invoke")) {
        return begins(r, &l, (uint32_t)process, ns);
    }
    bool end_of = field_is(type, "ok") || field_is(type, "fail") || field_is(type, "info");
    return end_of ? ends(r, &l, (uint32_t)process, ns) : -EINVAL;
}

int history_read(const char *text, size_t len, struct history *h, struct err *e)
{
    struct reader r = {.h = h};
    const char *end = text + len;
    int rc = 0;
    while (text < end && rc == 0) {
        const char *eol = memchr(text, '\n', (size_t)(end - text));
        eol = eol == NULL ? end : eol;
        r.number++;
        rc = take_line(&r, text, eol);
        text = eol == end ? end : eol + 1;
    }
    mem_free(r.under_way);
    if (rc == 0 && !r.header) {
        rc = -EINVAL;
    }
    return rc < 0 ? err_set(e, rc, "history, line %zu", r.number) : 0;
}
