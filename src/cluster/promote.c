/*
 * cluster/promote.c -- see promote.h.
 *
 * Copies of members that left are compared by the last epoch in which they served: who left later
 * has all that the other has. That holds along one line of contents only. A promotion begins a new
 * line: what left before it and what left after it are not compared, and what is not known neither.
 */
#include "cluster/promote.h"

static bool is_out(const struct cluster_member *m)
{
    return m->state == PROTO_MEMBER_OFFLINE || m->state == PROTO_MEMBER_WAITING;
}

static bool is_there(const struct cluster_row *row, const struct cluster_fact *f)
{
    return f->present && !f->gone && f->known_epoch == row->epoch;
}

/* Did both leave before the newest promotion, or both after it? */
static bool of_one_line(const struct cluster_row *row, size_t a, size_t b)
{
    uint32_t line = row->promotion.epoch;
    return (row->member[a].left_epoch < line) == (row->member[b].left_epoch < line);
}

/* A member that is there, and has all of what member i has and more; or row->count. */
static size_t newer_one(const struct cluster_row *row, const struct cluster_fact *fact, size_t i)
{
    size_t best = row->count;
    for (size_t j = 0; j < row->count; j++) {
        bool candidate = j != i && is_out(&row->member[j]) && is_there(row, &fact[j]) &&
                         fact[j].held == PROTO_HELD_WHOLE;
        bool newer = row->member[j].left_epoch > row->member[i].left_epoch;
        bool known = row->member[i].left_epoch != 0;
        if (candidate && newer && (!known || of_one_line(row, i, j)) &&
            (best == row->count || row->member[j].left_epoch > row->member[best].left_epoch)) {
            best = j;
        }
    }
    return best;
}

/* The first in that state, `there` or not; or row->count. */
static size_t first_of(const struct cluster_row *row, const struct cluster_fact *fact,
                       enum proto_member_state state, bool there)
{
    size_t i = 0;
    while (i < row->count &&
           (row->member[i].state != state || (there && (!fact[i].present || fact[i].gone)))) {
        i++;
    }
    return i;
}

enum cluster_promotable cluster_promote_check(const struct cluster_row *row,
                                              const struct cluster_fact *fact,
                                              const struct cluster_chain_times *times,
                                              uint32_t target, size_t *ret_other)
{
    size_t i = cluster_row_find(row, target), none = row->count;
    size_t serving = first_of(row, fact, PROTO_MEMBER_SERVING, false);
    size_t returns = first_of(row, fact, PROTO_MEMBER_LAST_SERVING, true);
    bool waited = times->now_ns >= times->dark_since_ns &&
                  times->now_ns - times->dark_since_ns >= times->dark_wait_ns;
    *ret_other = serving < none ? serving : returns;
    if (i == none) {
        return CLUSTER_PROMOTE_STRANGER;
    }
    if (*ret_other < none) {
        return serving < none ? CLUSTER_PROMOTE_SERVED : CLUSTER_PROMOTE_RETURNS;
    }
    if (row->member[i].state == PROTO_MEMBER_LAST_SERVING) {
        return CLUSTER_PROMOTE_SET;
    }
    if (!waited) {
        return CLUSTER_PROMOTE_EARLY;
    }
    if (!is_there(row, &fact[i])) {
        return CLUSTER_PROMOTE_AWAY;
    }
    if (fact[i].held != PROTO_HELD_WHOLE) {
        return fact[i].held == PROTO_HELD_PART ? CLUSTER_PROMOTE_PART : CLUSTER_PROMOTE_SILENT;
    }
    *ret_other = newer_one(row, fact, i);
    return *ret_other < none ? CLUSTER_PROMOTE_OLDER : CLUSTER_PROMOTE_MAY;
}

size_t cluster_promote_best(const struct cluster_row *row, const struct cluster_fact *fact,
                            const struct cluster_chain_times *times)
{
    size_t best = row->count, other;
    for (size_t i = 0; i < row->count; i++) {
        uint32_t target = row->member[i].target;
        if (cluster_promote_check(row, fact, times, target, &other) == CLUSTER_PROMOTE_MAY &&
            (best == row->count || row->member[i].left_epoch > row->member[best].left_epoch)) {
            best = i;
        }
    }
    return best;
}

bool cluster_promote_puts_aside(const struct cluster_row *row, const struct cluster_fact *fact,
                                size_t chosen, size_t i)
{
    const struct cluster_member *m = &row->member[i];
    uint32_t of = row->member[chosen].left_epoch;
    if (i == chosen) {
        return false;
    }
    if (m->aside || m->state == PROTO_MEMBER_LAST_SERVING) {
        return true;
    }
    if (is_there(row, &fact[i]) && fact[i].held == PROTO_HELD_PART) {
        return false; /* it never had all, or has given it up */
    }
    return of == 0 || m->left_epoch == 0 || m->left_epoch > of || !of_one_line(row, chosen, i);
}

void cluster_promote_row(const struct cluster_row *row, const struct cluster_fact *fact,
                         uint32_t target, uint64_t wall_ms, struct cluster_row *ret)
{
    size_t chosen = cluster_row_find(row, target), n = 1;
    CHECK(chosen < row->count && cluster_row_serving_count(row) == 0);
    struct cluster_row next = *row;
    const struct cluster_member *old = &row->member[chosen];
    next.member[0] = (struct cluster_member){.target = target, .state = PROTO_MEMBER_SERVING};
    for (size_t i = 0; i < row->count; i++) {
        if (i == chosen) {
            continue;
        }
        next.member[n] = row->member[i];
        if (cluster_promote_puts_aside(row, fact, chosen, i)) {
            next.member[n].state = PROTO_MEMBER_OFFLINE;
            next.member[n].aside = true;
        }
        n++;
    }
    next.epoch = row->epoch + 1;
    next.loss_gen = row->loss_gen + 1;
    next.promotion = (struct cluster_promotion){.target = target,
                                                .epoch = next.epoch,
                                                .of_epoch = old->left_epoch,
                                                .of_ms = old->left_ms,
                                                .time_ms = wall_ms};
    CHECK(cluster_row_valid(&next));
    *ret = next;
}

bool cluster_discard_row(const struct cluster_row *row, uint32_t target, struct cluster_row *ret)
{
    size_t i = cluster_row_find(row, target);
    if (i == row->count || !row->member[i].aside || cluster_row_serving_count(row) == 0) {
        return false;
    }
    struct cluster_row next = *row;
    next.member[i].aside = false;
    next.epoch = row->epoch + 1;
    CHECK(cluster_row_valid(&next));
    *ret = next;
    return true;
}
