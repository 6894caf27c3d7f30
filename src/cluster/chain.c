/*
 * cluster/chain.c -- one step of a chain's row from facts about its members (chain.md section 4).
 *
 * A step looks at the losses first (they are never delayed by anything else), then at promotion of
 * a dark chain, then at members on their way back, one at a time. Each step is one new row with
 * epoch + 1; the caller steps again when the row was published. That keeps every row change small
 * enough to be read from the table in the text.
 */
#include "cluster/chain.h"

#include <string.h>

bool cluster_row_valid(const struct cluster_row *row)
{
    size_t serving = 0, syncing = 0, last = 0;
    int rank_before = 0;
    if (row->count == 0 || row->count > CLUSTER_MEMBERS_MAX || row->epoch == 0) {
        return false;
    }
    for (size_t i = 0; i < row->count; i++) {
        enum proto_member_state s = row->member[i].state;
        bool aside = row->member[i].aside;
        if (s < PROTO_MEMBER_SERVING || s > PROTO_MEMBER_OFFLINE ||
            (aside && s != PROTO_MEMBER_OFFLINE)) {
            return false;
        }
        serving += s == PROTO_MEMBER_SERVING;
        syncing += s == PROTO_MEMBER_SYNCING;
        last += s == PROTO_MEMBER_LAST_SERVING;
        int rank = s == PROTO_MEMBER_SERVING ? 0 : s == PROTO_MEMBER_SYNCING ? 1 : 2;
        if (rank < rank_before) {
            return false;
        }
        rank_before = rank;
        for (size_t j = 0; j < i; j++) {
            if (row->member[j].target == row->member[i].target) {
                return false;
            }
        }
    }
    return syncing <= 1 && (syncing == 0 || serving > 0) && (last == 0 || serving == 0);
}

/* Moves member `from` to place `to`, the others keep their order. */
static void row_move(struct cluster_row *row, size_t from, size_t to)
{
    struct cluster_member m = row->member[from];
    if (from < to) {
        memmove(&row->member[from], &row->member[from + 1], (to - from) * sizeof m);
    } else {
        memmove(&row->member[to + 1], &row->member[to], (from - to) * sizeof m);
    }
    row->member[to] = m;
}

static void row_set(struct cluster_row *row, uint32_t target, enum proto_member_state state)
{
    size_t i = cluster_row_find(row, target);
    CHECK(i < row->count);
    bool was_serving = row->member[i].state == PROTO_MEMBER_SERVING;
    row->member[i].state = state;
    if (state == PROTO_MEMBER_SYNCING || state == PROTO_MEMBER_SERVING) {
        size_t behind = 0; /* the place behind the last serving one, not counting this member */
        for (size_t j = 0; j < row->count; j++) {
            behind += j != i && row->member[j].state == PROTO_MEMBER_SERVING;
        }
        row_move(row, i, behind);
    } else if (state == PROTO_MEMBER_OFFLINE && was_serving) {
        row_move(row, i, row->count - 1);
    }
}

/* R1: is somebody else that serves heard of after the loss of member i was learned? */
static bool heard_after(const struct cluster_row *row, const struct cluster_fact *fact, size_t i)
{
    for (size_t j = 0; j < row->count; j++) {
        if (j != i && row->member[j].state == PROTO_MEMBER_SERVING && !fact[j].gone &&
            fact[j].heard_ns > fact[i].gone_ns) {
            return true;
        }
    }
    return false;
}

/* The last serving members went together: the whole set is last-serving, and nobody can sync (T1).
 */
static void go_dark(const struct cluster_row *row, const struct cluster_fact *fact,
                    struct cluster_row *next)
{
    size_t syncing = row->count;
    for (size_t i = 0; i < row->count; i++) {
        if (row->member[i].state == PROTO_MEMBER_SERVING) {
            next->member[i].state = PROTO_MEMBER_LAST_SERVING;
        } else if (row->member[i].state == PROTO_MEMBER_SYNCING) {
            next->member[i].state = fact[i].gone ? PROTO_MEMBER_OFFLINE : PROTO_MEMBER_WAITING;
            syncing = i;
        }
    }
    CHECK(syncing == row->count || syncing == cluster_row_serving_count(row));
}

/* Losses. True when the row changes. */
static bool step_losses(const struct cluster_row *row, const struct cluster_fact *fact,
                        struct cluster_row *next)
{
    size_t serving = cluster_row_serving_count(row), gone = 0;
    for (size_t i = 0; i < serving; i++) {
        gone += fact[i].gone;
    }
    if (serving > 0 && gone == serving) {
        go_dark(row, fact, next);
        return true;
    }
    bool changed = false;
    for (size_t i = 0; i < row->count; i++) {
        enum proto_member_state s = row->member[i].state;
        bool leaves = s == PROTO_MEMBER_SERVING   ? fact[i].gone && heard_after(row, fact, i)
                      : s == PROTO_MEMBER_SYNCING ? fact[i].gone
                      : s == PROTO_MEMBER_WAITING ? fact[i].gone
                                                  : false;
        if (leaves) {
            row_set(next, row->member[i].target, PROTO_MEMBER_OFFLINE);
            changed = true;
        }
    }
    return changed;
}

static bool knows_row(const struct cluster_row *row, const struct cluster_fact *f)
{
    return f->present && !f->gone && f->known_epoch == row->epoch;
}

static void promote(const struct cluster_row *row, size_t chosen, struct cluster_row *next)
{
    for (size_t i = 0; i < row->count; i++) {
        if (i != chosen && row->member[i].state == PROTO_MEMBER_LAST_SERVING) {
            next->member[i].state = PROTO_MEMBER_OFFLINE;
        }
    }
    row_set(next, row->member[chosen].target, PROTO_MEMBER_SERVING);
}

/* A dark chain: T2 (an intact one serves at once), T3 (a lossy one after dark_wait, or when the set
 * is complete). */
static bool step_dark(const struct cluster_row *row, const struct cluster_fact *fact,
                      const struct cluster_chain_times *times, struct cluster_row *next)
{
    size_t set = 0, back = 0, first = row->count;
    for (size_t i = 0; i < row->count; i++) {
        if (row->member[i].state != PROTO_MEMBER_LAST_SERVING) {
            continue;
        }
        set++;
        if (!knows_row(row, &fact[i])) {
            continue;
        }
        if (fact[i].intact) {
            promote(row, i, next);
            return true;
        }
        back++;
        first = first == row->count ? i : first;
    }
    bool waited = times->now_ns >= times->dark_since_ns &&
                  times->now_ns - times->dark_since_ns >= times->dark_wait_ns;
    if (back == 0 || (back < set && !waited)) {
        return false;
    }
    promote(row, first, next);
    next->loss_gen = row->loss_gen + 1;
    return true;
}

/* Members on their way back: syncing -> serving, waiting -> syncing, offline -> waiting; the first
 * that fits. */
static bool step_returns(const struct cluster_row *row, const struct cluster_fact *fact,
                         struct cluster_row *next)
{
    size_t serving = cluster_row_serving_count(row);
    bool someone_syncs = serving < row->count && row->member[serving].state == PROTO_MEMBER_SYNCING;
    if (someone_syncs && knows_row(row, &fact[serving]) &&
        fact[serving].synced_epoch == row->epoch) {
        row_set(next, row->member[serving].target, PROTO_MEMBER_SERVING);
        return true;
    }
    for (size_t i = 0; i < row->count; i++) {
        if (row->member[i].state == PROTO_MEMBER_WAITING && serving > 0 && !someone_syncs &&
            knows_row(row, &fact[i])) {
            row_set(next, row->member[i].target, PROTO_MEMBER_SYNCING);
            return true;
        }
    }
    bool changed = false;
    for (size_t i = 0; i < row->count; i++) {
        bool out = row->member[i].state == PROTO_MEMBER_OFFLINE && !row->member[i].aside;
        if (out && knows_row(row, &fact[i])) {
            row_set(next, row->member[i].target, PROTO_MEMBER_WAITING);
            changed = true;
        }
    }
    return changed;
}

/* Until when is the copy of a member whole that serves no more? What a session has begun to bring
 * it does not count before the session has ended. */
static void note_left(const struct cluster_row *row, const struct cluster_chain_times *times,
                      struct cluster_row *next)
{
    for (size_t i = 0; i < next->count; i++) {
        struct cluster_member *m = &next->member[i];
        size_t from = cluster_row_find(row, m->target);
        if (m->state == PROTO_MEMBER_SERVING) {
            m->left_epoch = 0;
            m->left_ms = 0;
        } else if (row->member[from].state == PROTO_MEMBER_SERVING) {
            m->left_epoch = row->epoch;
            m->left_ms = times->wall_ms;
        }
    }
}

bool cluster_chain_step(const struct cluster_row *row, const struct cluster_fact *fact,
                        const struct cluster_chain_times *times, struct cluster_row *ret)
{
    CHECK(cluster_row_valid(row));
    struct cluster_row next = *row;
    bool changed = step_losses(row, fact, &next);
    if (!changed && cluster_row_serving_count(row) == 0) {
        changed = step_dark(row, fact, times, &next);
    }
    changed = changed || step_returns(row, fact, &next);
    if (changed) {
        next.epoch = row->epoch + 1;
        note_left(row, times, &next);
        CHECK(cluster_row_valid(&next));
        *ret = next;
    }
    return changed;
}

static int row_take_rest(const struct proto_row *from, struct cluster_row *row)
{
    for (size_t i = 0; i < from->left.count; i++) {
        const struct proto_left *l = &from->left.at[i];
        size_t at = cluster_row_find(row, l->target);
        if (at == row->count) {
            return -ERR_bad_value;
        }
        row->member[at].left_epoch = l->epoch;
        row->member[at].left_ms = l->time_ms;
        row->member[at].aside = l->aside;
    }
    if (from->promotion.count > 0) {
        const struct proto_promotion *p = &from->promotion.at[0];
        row->promotion = (struct cluster_promotion){.target = p->target,
                                                    .epoch = p->epoch,
                                                    .time_ms = p->time_ms,
                                                    .of_epoch = p->of_epoch,
                                                    .of_ms = p->of_ms};
    }
    return 0;
}

int cluster_row_from_proto(const struct proto_row *from, struct cluster_row *ret)
{
    struct cluster_row row = {.chain = from->chain,
                              .epoch = from->epoch,
                              .loss_gen = from->loss_gen,
                              .class_id = from->class_id,
                              .born = from->born};
    if (from->members.count > CLUSTER_MEMBERS_MAX) {
        return -ERR_bad_value;
    }
    row.count = from->members.count;
    for (size_t i = 0; i < row.count; i++) {
        row.member[i] =
            (struct cluster_member){.target = from->members.at[i].target,
                                    .state = (enum proto_member_state)from->members.at[i].state};
    }
    int rc = row_take_rest(from, &row);
    if (rc < 0 || !cluster_row_valid(&row)) {
        return -ERR_bad_value;
    }
    *ret = row;
    return 0;
}

void cluster_row_to_proto(const struct cluster_row *from, struct proto_member *members,
                          struct proto_row *ret)
{
    for (size_t i = 0; i < from->count; i++) {
        members[i] = (struct proto_member){.target = from->member[i].target,
                                           .state = (uint8_t)from->member[i].state};
    }
    *ret = (struct proto_row){.chain = from->chain,
                              .epoch = from->epoch,
                              .loss_gen = from->loss_gen,
                              .class_id = from->class_id,
                              .born = from->born,
                              .members = {.at = members, .count = from->count}};
}

static bool row_has_rest(const struct cluster_member *m)
{
    return m->left_epoch != 0 || m->left_ms != 0 || m->aside;
}

size_t cluster_row_rest_count(const struct cluster_row *row)
{
    size_t n = row->promotion.epoch != 0 ? 1 : 0;
    for (size_t i = 0; i < row->count; i++) {
        n += row_has_rest(&row->member[i]) ? 1 : 0;
    }
    return n;
}

void cluster_row_rest_to_proto(const struct cluster_row *from, struct cluster_row_rest *rest,
                               struct proto_row *ret)
{
    const struct cluster_promotion *p = &from->promotion;
    size_t n = 0;
    for (size_t i = 0; i < from->count; i++) {
        const struct cluster_member *m = &from->member[i];
        if (row_has_rest(m)) {
            rest->left[n++] = (struct proto_left){.target = m->target,
                                                  .epoch = m->left_epoch,
                                                  .time_ms = m->left_ms,
                                                  .aside = m->aside};
        }
    }
    rest->promotion = (struct proto_promotion){.target = p->target,
                                               .epoch = p->epoch,
                                               .time_ms = p->time_ms,
                                               .of_epoch = p->of_epoch,
                                               .of_ms = p->of_ms};
    ret->left = (struct proto_left_list){.at = rest->left, .count = n};
    ret->promotion =
        (struct proto_promotion_list){.at = &rest->promotion, .count = p->epoch != 0 ? 1 : 0};
}

void cluster_row_to_text(const struct cluster_row *row, char *out, size_t size)
{
    static const char *const names[] = {[PROTO_MEMBER_SERVING] = "serving",
                                        [PROTO_MEMBER_SYNCING] = "syncing",
                                        [PROTO_MEMBER_WAITING] = "waiting",
                                        [PROTO_MEMBER_LAST_SERVING] = "last-serving",
                                        [PROTO_MEMBER_OFFLINE] = "offline"};
    struct text t;
    text_init(&t, out, size);
    text_add(&t, "chain %u epoch %u loss_gen %u:", row->chain, row->epoch, row->loss_gen);
    for (size_t i = 0; i < row->count; i++) {
        text_add(&t, " %u=%s%s", row->member[i].target, names[row->member[i].state],
                 row->member[i].aside ? "(aside)" : "");
    }
}

size_t cluster_row_find(const struct cluster_row *row, uint32_t target)
{
    size_t i = 0;
    while (i < row->count && row->member[i].target != target) {
        i++;
    }
    return i;
}

size_t cluster_row_serving_count(const struct cluster_row *row)
{
    size_t n = 0;
    while (n < row->count && row->member[n].state == PROTO_MEMBER_SERVING) {
        n++;
    }
    return n;
}

/* How many members, from the front, get writes: serving and syncing. */
static size_t active_count(const struct cluster_row *row)
{
    size_t n = cluster_row_serving_count(row);
    return n < row->count && row->member[n].state == PROTO_MEMBER_SYNCING ? n + 1 : n;
}

size_t cluster_row_head(const struct cluster_row *row)
{
    return cluster_row_serving_count(row) > 0 ? 0 : row->count;
}

size_t cluster_row_tail(const struct cluster_row *row)
{
    size_t n = active_count(row);
    return n > 0 ? n - 1 : row->count;
}

size_t cluster_row_successor(const struct cluster_row *row, uint32_t target)
{
    size_t i = cluster_row_find(row, target), n = active_count(row);
    return i + 1 < n ? i + 1 : row->count;
}

size_t cluster_row_predecessor(const struct cluster_row *row, uint32_t target)
{
    size_t i = cluster_row_find(row, target);
    return i > 0 && i < active_count(row) ? i - 1 : row->count;
}
