/*
 * metanode/fsck_data.c -- what the leader knows to be wrong with what data nodes hold, in words:
 * damaged chunks (as reported), chains that lack copies, failed disks, removed files that wait.
 */
#include "metanode/fsck_data_priv.h"

#include "metanode/metanode_priv.h"

#include <stdlib.h>

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

void metanode_fsck_data_begin(struct metanode *m, struct metanode_fsck_data *d)
{
    size_t count = 0;
    *d = (struct metanode_fsck_data){0};
    LIST_FOR_EACH(node, &m->reports.damages)
    {
        const struct metanode_damage *x = LIST_ENTRY(node, struct metanode_damage, all);
        if (metanode_damage_stands(m, x) && count < METANODE_DAMAGES_MAX) {
            d->id[count++] = x->chunk.data_id;
        }
    }
    const struct metanode_compares *all = m->cleanup.compares;
    for (size_t i = 0; i < all->count; i++) {
        if (metanode_difference_stands(m, &all->named[i])) {
            d->id[count++] = all->named[i].chunk.data_id;
        }
    }
    qsort(d->id, count, sizeof d->id[0], compare_ids);
    for (size_t i = 0; i < count; i++) {
        if (d->count == 0 || d->id[d->count - 1] != d->id[i]) {
            d->id[d->count++] = d->id[i];
        }
    }
}

static const char *target_name(struct metanode *m, uint32_t id)
{
    const struct metanode_target *t = metanode_target_find(m, id);
    return t == NULL || t->name[0] == 0 ? "a target" : t->name;
}

#define NAMED_MAX 4u /* chunks of one file */

/* Chunks that members do not have the same of, behind `told` others. */
static size_t differences_of(struct metanode *m, uint64_t data_id, size_t told, struct text *text)
{
    const struct metanode_compares *all = m->cleanup.compares;
    size_t count = 0;
    for (size_t i = 0; i < all->count; i++) {
        const struct metanode_difference *d = &all->named[i];
        if (d->chunk.data_id != data_id || !metanode_difference_stands(m, d)) {
            continue;
        }
        if (count < NAMED_MAX) {
            text_add(text, "%schunk %u is not the same everywhere: %s",
                     told + count == 0 ? "" : "; ", d->chunk.index, d->text);
        }
        count++;
    }
    return count;
}

const char *metanode_fsck_data_of(struct metanode *m, uint64_t data_id, struct text *text)
{
    size_t count = 0, lost = 0;
    LIST_FOR_EACH(node, &m->reports.damages)
    {
        const struct metanode_damage *x = LIST_ENTRY(node, struct metanode_damage, all);
        if (x->chunk.data_id != data_id || !metanode_damage_stands(m, x)) {
            continue;
        }
        bool is_lost = x->damage == PROTO_DAMAGE_NO_COPY;
        if (count < NAMED_MAX) {
            text_add(text, "%schunk %u is damaged at %s%s", count == 0 ? "" : "; ", x->chunk.index,
                     target_name(m, x->target), is_lost ? ", no copy is good" : "");
        }
        count++;
        lost += is_lost ? 1 : 0;
    }
    if (count > NAMED_MAX) {
        text_add(text, "; and %zu more", count - NAMED_MAX);
    }
    size_t differ = differences_of(m, data_id, count, text);
    if (count + differ == 0) {
        text_add(text, "it was not well, and is again");
    }
    return lost > 0 ? "chunk.lost" : count > 0 || differ == 0 ? "chunk.damaged" : "chunk.differs";
}

/* ---- What is no file's ---- */

enum stage { STAGE_IDS, STAGE_TARGETS, STAGE_CHAINS, STAGE_GARBAGE, STAGE_ORPHANS, STAGE_END };

static bool more_ids(struct metanode *m, const struct metanode_fsck_data *d, struct text *text,
                     struct metanode_fsck_more *more)
{
    while (more->place < d->count && d->found[more->place]) {
        more->place++;
    }
    if (more->place == d->count) {
        return false;
    }
    uint64_t id = d->id[more->place++];
    text_add(text, "data id %llu, of no file: ", (unsigned long long)id);
    more->code = metanode_fsck_data_of(m, id, text);
    return true;
}

static bool more_targets(struct metanode *m, struct text *text, struct metanode_fsck_more *more)
{
    size_t at = 0;
    LIST_FOR_EACH(node, &m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (at++ < more->place) {
            continue;
        }
        more->place = at;
        if (metanode_disk_failed(t)) {
            more->code = "target.disk";
            text_add(text, "the disk of %s has failed: %s", t->name, t->disk_text);
            return true;
        }
        if (!t->alive || !t->registered) {
            more->code = "target.down";
            text_add(text, "%s (host %s) is down", t->name, t->host);
            return true;
        }
    }
    return false;
}

static void chain_words(struct metanode *m, const struct cluster_row *row, struct text *text)
{
    size_t serving = cluster_row_serving_count(row);
    text_add(text, "chain %u has %zu of %u copies", row->chain, serving, (unsigned)row->count);
    for (size_t i = 0; i < row->count; i++) {
        const struct cluster_member *member = &row->member[i];
        if (member->state != PROTO_MEMBER_SERVING) {
            text_add(text, "; %s %s", target_name(m, member->target),
                     member->state == PROTO_MEMBER_SYNCING        ? "is being filled"
                     : member->state == PROTO_MEMBER_WAITING      ? "waits to be filled"
                     : member->state == PROTO_MEMBER_LAST_SERVING ? "had the newest state"
                                                                  : "is missing");
        }
    }
}

static bool more_chains(struct metanode *m, struct text *text, struct metanode_fsck_more *more)
{
    size_t at = 0;
    LIST_FOR_EACH(node, &m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        if (at++ < more->place) {
            continue;
        }
        more->place = at;
        size_t serving = cluster_row_serving_count(row);
        if (serving < row->count) {
            more->code = serving == 0 ? "chain.dark" : "chain.copies";
            chain_words(m, row, text);
            return true;
        }
    }
    return false;
}

/* For whom: chains that nobody can be asked for. */
static bool more_garbage(struct metanode *m, uint64_t garbage, struct text *text,
                         struct metanode_fsck_more *more)
{
    size_t dark = 0;
    if (garbage == 0 || more->place++ > 0) {
        return false;
    }
    LIST_FOR_EACH(node, &m->chains.all)
    {
        struct proto_route route;
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        dark += metanode_head_link(m, c->row.chain, &route) == NULL ? 1 : 0;
    }
    if (dark == 0) { /* it is being done */
        return false;
    }
    more->code = "garbage.waits";
    text_add(text,
             "%llu removed file%s still ha%s data on targets: %zu chain%s no head to be asked",
             (unsigned long long)garbage, garbage == 1 ? "" : "s", garbage == 1 ? "s" : "ve", dark,
             dark == 1 ? " has" : "s have");
    return true;
}

/* What looks for orphans have found: audit.c. */
static bool more_orphans(struct metanode *m, struct text *text, struct metanode_fsck_more *more)
{
    return metanode_audit_words(m, more->place++, text, &more->code);
}

bool metanode_fsck_data_more(struct metanode *m, const struct metanode_fsck_data *d,
                             uint64_t garbage, struct metanode_fsck_more *more)
{
    bool some = false;
    while (!some && more->stage < STAGE_END) {
        struct text text;
        text_init(&text, more->text, sizeof more->text);
        some = more->stage == STAGE_IDS       ? more_ids(m, d, &text, more)
               : more->stage == STAGE_TARGETS ? more_targets(m, &text, more)
               : more->stage == STAGE_CHAINS  ? more_chains(m, &text, more)
               : more->stage == STAGE_GARBAGE ? more_garbage(m, garbage, &text, more)
                                              : more_orphans(m, &text, more);
        if (!some) {
            more->stage++;
            more->place = 0;
        }
    }
    return some;
}
