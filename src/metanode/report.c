/*
 * metanode/report.c -- what workers have noticed (chain.md 10, datanode/report.h): damaged chunks,
 * resyncs, a failed disk, figures, digests of chains (compare.c). In memory only: each new leader
 * is told again what stands. Reports may come twice and in any order; each says how it is.
 *
 * Damaged chunks are kept by name as far as there is room; how many a target has is the word of its
 * heartbeats. A worker tries to repair again and again and says each time what became of it: what
 * nobody has repeated for a while is not so any more (it was written anew, or removed).
 */
#include "metanode/metanode_priv.h"

#include "base/log.h"

static struct metanode_damage *damage_find(struct metanode *m, uint32_t target,
                                           struct proto_chunk c)
{
    LIST_FOR_EACH(node, &m->reports.damages)
    {
        struct metanode_damage *d = LIST_ENTRY(node, struct metanode_damage, all);
        if (d->target == target && d->chunk.data_id == c.data_id && d->chunk.index == c.index) {
            return d;
        }
    }
    return NULL;
}

static void damage_drop(struct metanode *m, struct metanode_damage *d)
{
    list_remove(&d->all);
    m->reports.damage_count--;
    mem_free(d);
}

/* The one that was not heard of for longest makes room: the newest are at the end. */
static struct metanode_damage *damage_new(struct metanode *m)
{
    if (m->reports.damage_count >= METANODE_DAMAGES_MAX) {
        damage_drop(m, LIST_ENTRY(m->reports.damages.next, struct metanode_damage, all));
    }
    struct metanode_damage *d = mem_zalloc(sizeof *d);
    if (d != NULL) {
        list_push_back(&m->reports.damages, &d->all);
        m->reports.damage_count++;
    }
    return d;
}

static void report_damage(struct metanode_target *t, const struct proto_report_item *i)
{
    struct metanode *m = t->m;
    if (i->chunk.data_id == 0) { /* too many to be named: the heartbeats count them */
        log_error(m->env->log, "many chunks are damaged", LOG_U64("target", t->id),
                  LOG_U64("chain", i->chain), LOG_U64("reports", i->merged));
        return;
    }
    struct metanode_damage *d = damage_find(m, t->id, i->chunk);
    if (i->damage == PROTO_DAMAGE_REPAIRED) {
        if (d != NULL) {
            damage_drop(m, d);
        }
        stats_count(&m->reports.repaired, 1);
        return;
    }
    if (i->damage != PROTO_DAMAGE_FOUND && i->damage != PROTO_DAMAGE_NO_COPY) {
        return; /* of a later version */
    }
    if (d == NULL) {
        stats_count(&m->reports.damaged, 1);
        log_error(m->env->log, "chunk is damaged", LOG_U64("target", t->id),
                  LOG_U64("chain", i->chain), LOG_U64("data", i->chunk.data_id),
                  LOG_U64("index", i->chunk.index));
        d = damage_new(m);
    }
    if (d == NULL) {
        return; /* no memory: the target says it again */
    }
    d->target = t->id;
    d->chain = i->chain;
    d->chunk = i->chunk;
    d->damage = (enum proto_damage)i->damage;
    d->heard_ns = metanode_now(m);
    list_remove(&d->all);
    list_push_back(&m->reports.damages, &d->all);
}

static void report_resynced(struct metanode_target *t, const struct proto_report_item *i)
{
    stats_count(&t->m->reports.resyncs, i->merged);
    stats_count(&t->m->reports.resync_copied, i->copied);
    log_info(t->m->env->log, "a member was brought up to date", LOG_U64("target", t->id),
             LOG_U64("chain", i->chain), LOG_U64("same", i->same), LOG_U64("copied", i->copied),
             LOG_U64("dropped", i->dropped));
}

static void report_disk(struct metanode_target *t, const struct proto_report_request *q)
{
    if (t->disk_error == 0) {
        log_error(t->m->env->log, "the disk of a target has failed", LOG_U64("target", t->id),
                  LOG_RC(q->disk_error));
    }
    t->disk_error = q->disk_error;
    t->disk_error_ns = metanode_now(t->m);
    proto_bytes_to_c(q->disk_text, t->disk_text, sizeof t->disk_text);
}

void metanode_report(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_report_request *q = r->body;
    struct proto_report_reply answer = {};
    struct metanode_target *t = metanode_target_who(m, r, q->target, q->incarnation);
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < q->items.count; i++) {
        if (q->items.at[i].kind == PROTO_REPORT_DAMAGE) {
            report_damage(t, &q->items.at[i]);
        } else if (q->items.at[i].kind == PROTO_REPORT_RESYNCED) {
            report_resynced(t, &q->items.at[i]);
        }
    }
    for (size_t i = 0; i < q->digests.count; i++) {
        metanode_digest_heard(t, &q->digests.at[i]);
    }
    if (q->disk_error < 0) {
        report_disk(t, q);
    }
    if (q->has_figures) {
        t->has_figures = true;
        t->figures = q->figures;
    }
    peer_request_answer(r, &answer, NULL);
}

void metanode_damages_forget(struct metanode *m, uint32_t target)
{
    LIST_FOR_EACH_SAFE(node, &m->reports.damages)
    {
        struct metanode_damage *d = LIST_ENTRY(node, struct metanode_damage, all);
        if (d->target == target) {
            damage_drop(m, d);
        }
    }
}

bool metanode_damage_stands(const struct metanode *m, const struct metanode_damage *d)
{
    return metanode_now(m) - d->heard_ns < METANODE_DAMAGE_MS * METANODE_NS_PER_MS;
}

bool metanode_disk_failed(const struct metanode_target *t)
{
    return t->disk_error < 0 &&
           metanode_now(t->m) - t->disk_error_ns < METANODE_DISK_ERROR_MS * METANODE_NS_PER_MS;
}

void metanode_reports_init(struct metanode *m)
{
    list_init(&m->reports.damages);
}

void metanode_reports_statistics(struct metanode *m)
{
    stats_add_counter(m->stats, "damage_reports", &m->reports.damaged);
    stats_add_counter(m->stats, "repair_reports", &m->reports.repaired);
    stats_add_counter(m->stats, "resyncs", &m->reports.resyncs);
    stats_add_counter(m->stats, "resync_copied", &m->reports.resync_copied);
}

void metanode_reports_fini(struct metanode *m)
{
    struct list *node;
    while ((node = list_pop_front(&m->reports.damages)) != NULL) {
        mem_free(LIST_ENTRY(node, struct metanode_damage, all));
    }
}
