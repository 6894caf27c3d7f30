#include "cli/why_priv.h"

#include <stdio.h>
#include <string.h>

void cli_why_init(struct why *y)
{
    memset(y, 0, sizeof *y);
    y->least = SIZE_MAX;
}

void cli_why_host_text(const struct opendfs_where_target *t, char out[WHY_HOST_SIZE])
{
    if (t->host[0] != '\0') {
        snprintf(out, WHY_HOST_SIZE, "%.70s", t->host);
    } else {
        snprintf(out, WHY_HOST_SIZE, "of target %u", t->id);
    }
}

static bool member_has(const struct opendfs_where_member *m)
{
    return m->state == OPENDFS_MEMBER_SERVING && m->result == 0 && m->there && !m->damaged;
}

/* The first member that has it says what it is: a chain's order is the order of its commits. */
static const struct opendfs_where_member *chunk_first(const struct opendfs_where_chunk *k)
{
    for (size_t i = 0; i < k->member_count; i++) {
        if (member_has(&k->members[i])) {
            return &k->members[i];
        }
    }
    return NULL;
}

bool cli_why_is_good(const struct opendfs_where_chunk *k, const struct opendfs_where_member *m)
{
    const struct opendfs_where_member *first = chunk_first(k);
    return member_has(m) && m->epoch == first->epoch && m->version == first->version;
}

/* ---- Sets of hosts ---- */

static void set_add(struct why_set *s, const char *host)
{
    size_t at = 0;
    while (at < s->host_count && strcmp(s->host[at], host) < 0) {
        at++;
    }
    bool known = at < s->host_count && strcmp(s->host[at], host) == 0;
    if (known || s->host_count == WHY_HOSTS_MAX) {
        return;
    }
    memmove(s->host[at + 1], s->host[at], (s->host_count - at) * WHY_HOST_SIZE);
    snprintf(s->host[at], WHY_HOST_SIZE, "%s", host);
    s->host_count++;
}

static bool set_equal(const struct why_set *a, const struct why_set *b)
{
    bool equal = a->host_count == b->host_count;
    for (size_t i = 0; equal && i < a->host_count; i++) {
        equal = strcmp(a->host[i], b->host[i]) == 0;
    }
    return equal;
}

static void why_keep(struct why *y, const struct why_set *s)
{
    y->least = s->host_count < y->least ? s->host_count : y->least;
    for (size_t i = 0; i < y->set_count; i++) {
        if (set_equal(&y->set[i], s)) {
            y->set[i].chunk_count++;
            return;
        }
    }
    if (y->set_count == WHY_SETS_MAX) {
        y->elsewhere++;
        return;
    }
    y->set[y->set_count++] = *s;
}

/* ---- Chunks ---- */

struct chunk_sum {
    size_t serving, silent, damaged, has, good;
};

static struct chunk_sum chunk_sum(const struct opendfs_where_chunk *k, struct why_set *set)
{
    struct chunk_sum n = {0};
    for (size_t i = 0; i < k->member_count; i++) {
        const struct opendfs_where_member *m = &k->members[i];
        char host[WHY_HOST_SIZE];
        bool serves = m->state == OPENDFS_MEMBER_SERVING;
        n.serving += serves ? 1 : 0;
        n.silent += serves && m->result != 0 ? 1 : 0;
        n.damaged += serves && m->damaged ? 1 : 0;
        n.has += member_has(m) ? 1 : 0;
        if (cli_why_is_good(k, m)) {
            n.good++;
            cli_why_host_text(m->target, host);
            set_add(set, host);
        }
    }
    return n;
}

enum why_kind cli_why_add(struct why *y, const struct opendfs_where_chunk *k, uint32_t copies)
{
    struct why_set set = {.first = k->index, .chunk_count = 1};
    struct chunk_sum n = chunk_sum(k, &set);
    y->chunks++;
    if (n.has == 0 && n.damaged == 0 && n.serving > n.silent) {
        y->holes++;
        return WHY_HOLE;
    }
    if (n.good == 0) {
        y->unreadable_first = y->unreadable == 0 ? k->index : y->unreadable_first;
        y->unreadable++;
        y->least = 0;
        return WHY_UNREADABLE;
    }
    why_keep(y, &set);
    if (n.good < n.serving - n.silent - n.damaged) {
        y->different++;
        return WHY_DIFFERENT;
    }
    if (n.good < copies) {
        y->few++;
        return WHY_FEW;
    }
    return WHY_GOOD;
}

/* ---- Words ---- */

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

void cli_why_set_text(const struct why_set *s, struct text *out)
{
    text_add(out, "losing host%s ", plural(s->host_count));
    for (size_t i = 0; i < s->host_count; i++) {
        text_add(out, "%s%s", i == 0 ? "" : i + 1 == s->host_count ? " and " : ", ", s->host[i]);
    }
    if (s->chunk_count == 1) {
        text_add(out, " loses chunk %u", s->first);
    } else {
        text_add(out, " loses %zu chunks (the first is chunk %u)", s->chunk_count, s->first);
    }
}

void cli_why_text(const struct why *y, struct text *out)
{
    if (y->unreadable > 0) {
        text_add(out,
                 "%llu chunk%s cannot be read now (the first is chunk %u): no member that serves "
                 "it says that it has it.",
                 (unsigned long long)y->unreadable, plural(y->unreadable), y->unreadable_first);
    } else if (y->least == SIZE_MAX) {
        text_add(out, "Nothing of it is stored: it is all zeros.");
    } else if (y->least == 1) {
        text_add(out, "Not every chunk has copies on different hosts: losing one host may lose "
                      "something.");
    } else if (y->least == 2) {
        text_add(out, "Each chunk has copies on at least 2 hosts: any one host may be lost.");
    } else {
        text_add(out, "Each chunk has copies on at least %zu hosts: any %zu hosts may be lost.",
                 y->least, y->least - 1);
    }
}
