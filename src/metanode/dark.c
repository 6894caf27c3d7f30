/*
 * metanode/dark.c -- chains that nobody serves, and copies that were set aside: in words, and for
 * programs. What is said here is soft: members tell it again to each leader.
 */
#include "metanode/promote_priv.h"

#include <stdio.h>
#include <string.h>

#define DARK_SHOWN 128u /* the rest when these are dealt with: a status has its limit */
#define ASIDE_SHOWN 256u
#define NAMES_SHOWN 3u

/* ---- Words ---- */

char *metanode_target_word(struct metanode *m, uint32_t target, char out[METANODE_WORD_SIZE])
{
    const struct metanode_target *t = metanode_target_find(m, target);
    bool alone = t != NULL && t->name[0] != 0;
    LIST_FOR_EACH(node, &m->targets.all)
    {
        const struct metanode_target *other = LIST_ENTRY(node, struct metanode_target, all);
        alone = alone &&
                (other == t || metanode_target_is_past(other) || strcmp(other->name, t->name) != 0);
    }
    if (alone) {
        (void)snprintf(out, METANODE_WORD_SIZE, "%s", t->name);
    } else {
        (void)snprintf(out, METANODE_WORD_SIZE, "id:%u", target);
    }
    return out;
}

char *metanode_time_text(uint64_t wall_ms, char out[METANODE_TIME_SIZE])
{
    struct text t;
    text_init(&t, out, METANODE_TIME_SIZE);
    if (wall_ms == 0) {
        text_add(&t, "a time that is not known");
    } else {
        text_add_time(&t, wall_ms);
    }
    return out;
}

/* "target.0, target.2 and 3 more" of those in this state; how many. */
static size_t way_names(const struct metanode_chain *c, enum proto_member_state state,
                        struct text *out)
{
    char word[METANODE_WORD_SIZE];
    size_t n = 0;
    for (size_t i = 0; i < c->row.count; i++) {
        if (c->row.member[i].state != state) {
            continue;
        }
        if (n < NAMES_SHOWN) {
            text_add(out, "%s%s", n == 0 ? "" : ", ",
                     metanode_target_word(c->m, c->row.member[i].target, word));
        }
        n++;
    }
    if (n > NAMES_SHOWN) {
        text_add(out, " and %zu more", n - NAMES_SHOWN);
    }
    return n;
}

static bool way_comes_back(const struct metanode_chain *c)
{
    bool back = false;
    for (size_t i = 0; i < c->row.count; i++) {
        back = back || (c->row.member[i].state == PROTO_MEMBER_LAST_SERVING && c->fact[i].present &&
                        !c->fact[i].gone);
    }
    return back;
}

void metanode_way_out(struct metanode_chain *c, struct metanode_way *ret)
{
    const struct cluster_chain_times times = metanode_chain_times(c);
    char names[200], word[METANODE_WORD_SIZE], since[METANODE_TIME_SIZE];
    struct text t;
    text_init(&t, names, sizeof names);
    size_t set = way_names(c, PROTO_MEMBER_LAST_SERVING, &t);
    *ret = (struct metanode_way){.best = cluster_promote_best(&c->row, c->fact, &times)};
    text_init(&t, ret->words, sizeof ret->words);
    if (way_comes_back(c)) {
        text_add(&t, "one that has what was synced is back, and serves soon");
        return;
    }
    if (set > 0) {
        text_add(&t, "%s %s what was synced: bring %s back", names, set == 1 ? "has" : "have",
                 set == 1 ? "it" : "one of them");
    } else {
        text_add(&t, "nobody is known to have what was synced");
    }
    if (ret->best < c->row.count) {
        const struct cluster_member *m = &c->row.member[ret->best];
        metanode_target_word(c->m, m->target, word);
        text_add(&t, "; %s has an old copy, of %s", word, metanode_time_text(m->left_ms, since));
        (void)snprintf(ret->command, sizeof ret->command, "opendfs chain promote %s %u", word,
                       c->row.chain);
    } else {
        text_add(&t, "; no other whole copy is there");
    }
}

struct metanode_chain *metanode_way_first(struct metanode *m, size_t *ret_count)
{
    struct metanode_chain *first = NULL;
    *ret_count = 0;
    LIST_FOR_EACH(node, &m->chains.all)
    {
        struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        const struct cluster_chain_times times = metanode_chain_times(c);
        if (cluster_row_serving_count(&c->row) > 0 ||
            cluster_promote_best(&c->row, c->fact, &times) == c->row.count) {
            continue;
        }
        first = first == NULL ? c : first;
        ++*ret_count;
    }
    return first;
}

size_t metanode_aside_count(struct metanode *m, struct metanode_chain **ret_chain,
                            size_t *ret_member)
{
    size_t n = 0;
    LIST_FOR_EACH(node, &m->chains.all)
    {
        struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        for (size_t i = 0; i < c->row.count; i++) {
            if (c->row.member[i].aside && n++ == 0) {
                *ret_chain = c;
                *ret_member = i;
            }
        }
    }
    return n;
}

/* ---- For programs ---- */

static void dark_json_target(struct metanode *m, uint32_t id, struct text *out)
{
    const struct metanode_target *t = metanode_target_find(m, id);
    char word[METANODE_WORD_SIZE];
    text_add(out, "\"target\":%u,\"name\":", id);
    metanode_json_text(out, metanode_target_word(m, id, word));
    text_add(out, ",\"host\":");
    metanode_json_text(out, t == NULL ? "" : t->host);
    text_add(out, ",\"up\":%s", t != NULL && t->alive && t->registered ? "true" : "false");
}

static void dark_json_member(struct metanode_chain *c, size_t i, size_t best, struct text *out)
{
    static const char *const states[] = {[PROTO_MEMBER_SERVING] = "serving",
                                         [PROTO_MEMBER_SYNCING] = "syncing",
                                         [PROTO_MEMBER_WAITING] = "waiting",
                                         [PROTO_MEMBER_LAST_SERVING] = "last-serving",
                                         [PROTO_MEMBER_OFFLINE] = "offline"};
    static const char *const held[] = {
        [PROTO_HELD_UNKNOWN] = "unknown", [PROTO_HELD_WHOLE] = "whole", [PROTO_HELD_PART] = "part"};
    const struct cluster_member *m = &c->row.member[i];
    const struct cluster_fact *f = &c->fact[i];
    bool says = f->present && !f->gone;
    bool put = best < c->row.count && cluster_promote_puts_aside(&c->row, c->fact, best, i);
    text_add(out, "%s{", i == 0 ? "" : ",");
    dark_json_target(c->m, m->target, out);
    text_add(out,
             ",\"state\":\"%s\",\"aside\":%s,\"puts_aside\":%s,\"held\":\"%s\","
             "\"left_epoch\":%u,\"left_ms\":%llu}",
             states[m->state], m->aside ? "true" : "false", put ? "true" : "false",
             held[says ? f->held : PROTO_HELD_UNKNOWN], m->left_epoch,
             (unsigned long long)m->left_ms);
}

static void dark_json_chain(struct metanode_chain *c, bool first, struct text *out)
{
    const struct cluster_chain_times times = metanode_chain_times(c);
    struct metanode_way way;
    metanode_way_out(c, &way);
    text_add(out, "%s{\"chain\":%u,\"epoch\":%u,\"loss_gen\":%u,\"since_ms\":%llu,\"promote\":%u,",
             first ? "" : ",", c->row.chain, c->row.epoch, c->row.loss_gen,
             (unsigned long long)((times.now_ns - times.dark_since_ns) / METANODE_NS_PER_MS),
             way.best < c->row.count ? c->row.member[way.best].target : 0);
    text_add(out, "\"text\":");
    metanode_json_text(out, way.words);
    text_add(out, ",\"command\":");
    metanode_json_text(out, way.command);
    text_add(out, ",\"members\":[");
    for (size_t i = 0; i < c->row.count; i++) {
        dark_json_member(c, i, way.best, out);
    }
    text_add(out, "]}");
}

static void aside_json(struct metanode_chain *c, size_t i, bool first, struct text *out)
{
    const struct cluster_member *m = &c->row.member[i];
    const struct cluster_promotion *p = &c->row.promotion;
    char word[METANODE_WORD_SIZE];
    text_add(out, "%s{\"chain\":%u,\"epoch\":%u,", first ? "" : ",", c->row.chain, c->row.epoch);
    dark_json_target(c->m, m->target, out);
    text_add(out, ",\"left_epoch\":%u,\"left_ms\":%llu,\"promoted\":", m->left_epoch,
             (unsigned long long)m->left_ms);
    metanode_json_text(out, metanode_target_word(c->m, p->target, word));
    text_add(out, ",\"promoted_ms\":%llu,\"of_epoch\":%u,\"of_ms\":%llu,\"served\":%s}",
             (unsigned long long)p->time_ms, p->of_epoch, (unsigned long long)p->of_ms,
             cluster_row_serving_count(&c->row) > 0 ? "true" : "false");
}

void metanode_dark_json(struct metanode *m, struct text *out)
{
    size_t dark = 0, aside = 0, first;
    struct metanode_chain *c;
    text_add(out, "\"asides\":%zu,\"dark\":[", metanode_aside_count(m, &c, &first));
    LIST_FOR_EACH(node, &m->chains.all)
    {
        c = LIST_ENTRY(node, struct metanode_chain, all);
        if (cluster_row_serving_count(&c->row) == 0 && dark < DARK_SHOWN) {
            dark_json_chain(c, dark++ == 0, out);
        }
    }
    text_add(out, "],\"aside\":[");
    LIST_FOR_EACH(node, &m->chains.all)
    {
        c = LIST_ENTRY(node, struct metanode_chain, all);
        for (size_t i = 0; i < c->row.count; i++) {
            if (c->row.member[i].aside && aside < ASIDE_SHOWN) {
                aside_json(c, i, aside++ == 0, out);
            }
        }
    }
    text_add(out, "],");
}
