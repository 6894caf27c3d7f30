/* datanode/report.c -- see report.h. */
#include "datanode/report.h"

static bool is_of_chunk(const struct datanode_report *r)
{
    return r->chunk.data_id != 0;
}

/* Does `all` tell what `one` is about? */
static bool covers(const struct datanode_report *all, const struct datanode_report *one)
{
    bool same = all->chain == one->chain;
    if (all->kind != one->kind) {
        return false;
    }
    if (is_of_chunk(all)) { /* also of one whose chain is not known: 0 */
        return same && chunk_key_compare(all->chunk, one->chunk) == 0;
    }
    return all->chain == 0 || same;
}

static void merge(struct datanode_report *into, const struct datanode_report *r)
{
    uint64_t sum = (uint64_t)into->merged + r->merged;
    into->merged = (uint32_t)base_min(sum, UINT32_MAX);
    into->damage = r->damage > into->damage ? r->damage : into->damage;
    into->epoch = r->epoch > into->epoch ? r->epoch : into->epoch;
    into->same += r->same;
    into->copied += r->copied;
    into->dropped += r->dropped;
}

/* Room is made: all of one kind and chain (0: of all chains) become one. */
static void gather(struct datanode_reports *q, enum proto_report_kind kind, uint32_t chain)
{
    struct datanode_report all = {.kind = kind, .chain = chain, .number = ++q->number};
    size_t kept = 0;
    for (size_t i = 0; i < q->count; i++) {
        if (covers(&all, &q->at[i])) {
            merge(&all, &q->at[i]);
        } else {
            q->at[kept++] = q->at[i];
        }
    }
    CHECK(kept < q->count);
    q->at[kept++] = all;
    q->count = kept;
}

/* How many become one when this one's chain is looked at as a whole. */
static size_t gathered_by(const struct datanode_reports *q, const struct datanode_report *r)
{
    const struct datanode_report all = {.kind = r->kind, .chain = r->chain};
    size_t count = 0;
    for (size_t i = 0; i < q->count; i++) {
        count += covers(&all, &q->at[i]) ? 1U : 0U;
    }
    return count;
}

static void make_room(struct datanode_reports *q)
{
    const struct datanode_report *best = &q->at[0];
    size_t most = 0;
    for (size_t i = 0; i < q->count; i++) {
        size_t count = gathered_by(q, &q->at[i]);
        if (count > most) {
            most = count;
            best = &q->at[i];
        }
    }
    if (most > 1) {
        gather(q, best->kind, best->chain);
        return;
    }
    /* A chain each: the least urgent kind of which there are several. There is one: there are many
     * more reports than kinds. */
    size_t of[PROTO_REPORT_RESYNCED + 1] = {0};
    best = NULL;
    for (size_t i = 0; i < q->count; i++) {
        CHECK((size_t)q->at[i].kind < ARRAY_COUNT(of));
        of[q->at[i].kind]++;
    }
    for (size_t i = 0; i < q->count; i++) {
        bool several = of[q->at[i].kind] > 1;
        best = several && (best == NULL || q->at[i].kind > best->kind) ? &q->at[i] : best;
    }
    CHECK(best != NULL);
    gather(q, best->kind, 0);
}

static struct datanode_report *find(struct datanode_reports *q, const struct datanode_report *r)
{
    for (size_t i = 0; i < q->count; i++) {
        if (covers(&q->at[i], r)) {
            return &q->at[i];
        }
    }
    return NULL;
}

void datanode_reports_add(struct datanode_reports *q, const struct datanode_report *r)
{
    struct datanode_report new = *r;
    new.merged = 1;
    new.number = ++q->number;
    struct datanode_report *old = find(q, &new);
    if (old == NULL && q->count == DATANODE_REPORTS_MAX) {
        make_room(q);
        old = find(q, &new);
        new.number = ++q->number;
    }
    if (old == NULL) {
        CHECK(q->count < DATANODE_REPORTS_MAX);
        q->at[q->count++] = new;
        return;
    }
    bool same =
        old->chain == new.chain &&chunk_key_compare(old->chunk, new.chunk) == 0 && old->merged == 1;
    if (same) { /* the newer word on the same subject */
        *old = new;
        return;
    }
    merge(old, &new);
    old->number = new.number;
}

static bool is_before(const struct datanode_report *a, const struct datanode_report *b)
{
    return a->kind != b->kind ? a->kind < b->kind : a->number < b->number;
}

size_t datanode_reports_take(const struct datanode_reports *q, struct datanode_report *ret,
                             size_t max)
{
    size_t count = 0;
    const struct datanode_report *last = NULL;
    while (count < max) {
        const struct datanode_report *next = NULL;
        for (size_t i = 0; i < q->count; i++) {
            const struct datanode_report *r = &q->at[i];
            bool behind = last == NULL || is_before(last, r);
            next = behind && (next == NULL || is_before(r, next)) ? r : next;
        }
        if (next == NULL) {
            break;
        }
        ret[count++] = *next;
        last = next;
    }
    return count;
}

void datanode_reports_heard(struct datanode_reports *q, const struct datanode_report *heard,
                            size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < q->count; i++) {
        bool gone = false;
        for (size_t j = 0; j < count && !gone; j++) {
            gone = heard[j].number == q->at[i].number;
        }
        if (!gone) {
            q->at[kept++] = q->at[i];
        }
    }
    q->count = kept;
}
