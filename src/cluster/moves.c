/*
 * cluster/moves.c -- what is wrong with each chain, and the one step that helps.
 *
 * A member is *bad* where it is to go whatever comes: its target leaves, is lost or not known, or
 * is full and keeps it from catching up; or it is set aside (promote.h): then it is replaced, but
 * stays. The others are *kept*. A chain with fewer kept members than copies gets one more; when
 * enough serve, bad ones go; with more kept members than copies the one goes whose absence leaves
 * the fewest clashes, then the one whose target has most. So a move that only evens out is: add a
 * member, and let that rule take away the one that it was made for. For that to end, a target gets
 * a copy only if it has less even with it than the other one.
 *
 * Shares are counted per class and per version of its table (`born`): chains of one version hold
 * about equally much, those of an older one more. They are counted once, and kept up to date by
 * what is planned; with whom a target shares chains is found by the chains of that target.
 */
#include "cluster/moves.h"

#include "base/mem.h"

#include <stdlib.h>

#define NOWHERE UINT32_MAX
#define EVEN_AT_ONCE 4u /* moves of a group that are begun in one plan, at most */

struct view { /* one chain, looked at once */
    const struct cluster_row *row;
    const struct cluster_moves_class *class; /* NULL: not known, nothing is done */
    uint32_t at[CLUSTER_MEMBERS_MAX];        /* places of its members, or NOWHERE */
    uint32_t bad;                            /* bit i: member i */
    size_t serving, kept;
    size_t goes;     /* kept, but one too many: counted as if it were gone; or row->count */
    bool joins;      /* a member is on its way in */
    uint32_t joined; /* the place of one that this plan adds, or NOWHERE */
    bool done;       /* it has a move in this plan, or is busy */
};
struct order {
    uint64_t first, second;
    size_t chain;
};
struct plan {
    const struct cluster_moves_facts *f;
    struct view *view;
    struct order *order;
    uint32_t *active; /* copies under way, by place */
    uint32_t *count;  /* members in the group of one chain, by place */
    uint32_t *pairs;  /* chains of its class in common with its members, by place */
    const struct cluster_moves_class *count_class; /* of the group that is counted; NULL: none is */
    uint32_t count_born;
    size_t *seats_from; /* by place: where its chains begin in `seats`, one more than places */
    uint32_t *seats;    /* chains as they are in the facts, by member */
    struct cluster_move *move;
    size_t max, moves;
    struct cluster_moves_sum sum;
};

static uint32_t place_find(const struct cluster_moves_facts *f, uint32_t target)
{
    size_t low = 0, high = f->place_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (f->place[middle].target.id < target) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low < f->place_count && f->place[low].target.id == target;
    return found ? (uint32_t)low : NOWHERE;
}

static const struct cluster_moves_class *class_find(const struct cluster_moves_facts *f,
                                                    uint32_t id)
{
    for (size_t i = 0; i < f->class_count; i++) {
        if (f->class[i].id == id) {
            return &f->class[i];
        }
    }
    return NULL;
}

static bool kept(const struct view *v, size_t i)
{
    return (v->bad >> i & 1) == 0;
}

static enum proto_member_state state_of(const struct view *v, size_t i)
{
    return v->row->member[i].state;
}

/* ---- Looking ---- */

static bool is_bad(const struct plan *p, const struct view *v, const struct cluster_moves_chain *c,
                   size_t i)
{
    const struct cluster_place *place = v->at[i] == NOWHERE ? NULL : &p->f->place[v->at[i]];
    enum proto_member_state s = state_of(v, i);
    bool out = s == PROTO_MEMBER_OFFLINE || s == PROTO_MEMBER_WAITING;
    return place == NULL || place->leaves || v->row->member[i].aside ||
           (out && (c->lost >> i & 1) != 0) ||
           (out && place->full && v->serving < v->class->copies);
}

static void view_sum(struct plan *p, const struct view *v)
{
    for (size_t i = 0; i < v->row->count; i++) {
        bool leaves = v->at[i] == NOWHERE || p->f->place[v->at[i]].leaves;
        bool replaced = v->row->member[i].aside && v->kept >= v->class->copies;
        p->sum.leaving += leaves ? 1 : 0;
        p->sum.lost += !leaves && !kept(v, i) && !replaced ? 1 : 0;
    }
    p->sum.endangered += v->serving < v->class->copies ? 1 : 0;
}

static void view_active(struct plan *p, struct view *v)
{
    for (size_t i = v->serving; i < v->row->count; i++) {
        enum proto_member_state s = state_of(v, i);
        bool comes = s == PROTO_MEMBER_SYNCING || s == PROTO_MEMBER_WAITING;
        if (!comes || !kept(v, i) || v->serving == 0) {
            continue;
        }
        v->joins = true;
        p->active[v->at[i]]++;
        uint32_t source = v->at[v->serving - 1];
        if (source != NOWHERE) {
            p->active[source]++;
        }
        p->sum.making++;
    }
}

static void view_make(struct plan *p, size_t chain)
{
    const struct cluster_moves_chain *c = &p->f->chain[chain];
    struct view *v = &p->view[chain];
    *v = (struct view){.row = c->row,
                       .class = class_find(p->f, c->row->class_id),
                       .serving = cluster_row_serving_count(c->row),
                       .goes = c->row->count,
                       .joined = NOWHERE,
                       .done = c->busy};
    if (v->class == NULL) {
        v->done = true;
        return;
    }
    for (size_t i = 0; i < v->row->count; i++) {
        v->at[i] = place_find(p->f, v->row->member[i].target);
    }
    for (size_t i = 0; i < v->row->count; i++) {
        bool bad = is_bad(p, v, c, i);
        v->bad |= bad ? 1U << i : 0;
        v->kept += bad ? 0 : 1;
    }
    view_sum(p, v);
    view_active(p, v);
    v->done = v->done || v->serving == 0; /* dark: not a matter of moves */
}

/* ---- Failure domains, shares ---- */

static unsigned clash(const struct plan *p, const struct cluster_moves_class *k, uint32_t a,
                      uint32_t b)
{
    const struct cluster_target *x = &p->f->place[a].target, *y = &p->f->place[b].target;
    switch (k->domain) {
    case PROTO_DOMAIN_HOST:
        return x->host_key == y->host_key ? 1 : 0;
    case PROTO_DOMAIN_RACK:
        return x->rack_key != y->rack_key ? 0 : x->host_key == y->host_key ? 2 : 1;
    case PROTO_DOMAIN_TARGET:
        break;
    }
    return 0;
}

/* Of a place with the kept members but one (`but`, or any number that is none). */
static unsigned clashes_with(const struct plan *p, const struct view *v, uint32_t place, size_t but)
{
    unsigned n = v->class->suits[place] ? 0 : 1;
    for (size_t i = 0; i < v->row->count; i++) {
        if (i != but && kept(v, i) && v->at[i] != place) {
            n += clash(p, v->class, v->at[i], place);
        }
    }
    return n;
}

/* Of all kept members but one with each other. */
static unsigned clashes(const struct plan *p, const struct view *v, size_t but)
{
    unsigned n = 0;
    for (size_t i = 0; i < v->row->count; i++) {
        if (i == but || !kept(v, i)) {
            continue;
        }
        n += v->class->suits[v->at[i]] ? 0 : 1;
        for (size_t j = 0; j < i; j++) {
            n += j != but && kept(v, j) ? clash(p, v->class, v->at[i], v->at[j]) : 0;
        }
    }
    return n;
}

static bool is_member(const struct view *v, uint32_t place)
{
    bool found = v->joined == place;
    for (size_t i = 0; i < v->row->count && !found; i++) {
        found = v->at[i] == place;
    }
    return found;
}

/* Members as they will be; returns how many. */
static size_t members_then(const struct view *v, uint32_t at[CLUSTER_MEMBERS_MAX + 1])
{
    size_t n = 0;
    for (size_t i = 0; i < v->row->count; i++) {
        if (kept(v, i) && i != v->goes) {
            at[n++] = v->at[i];
        }
    }
    if (v->joined != NOWHERE) {
        at[n++] = v->joined;
    }
    return n;
}

static bool is_counted(const struct plan *p, const struct view *v)
{
    return v->class == p->count_class && v->row->born == p->count_born;
}

/* The members of a group, unless they are counted already. */
static void tally_group(struct plan *p, const struct view *v)
{
    uint32_t at[CLUSTER_MEMBERS_MAX + 1];
    if (is_counted(p, v)) {
        return;
    }
    p->count_class = v->class;
    p->count_born = v->row->born;
    memset(p->count, 0, p->f->place_count * sizeof *p->count);
    p->sum.looks += p->f->chain_count;
    for (size_t i = 0; i < p->f->chain_count; i++) {
        size_t n = is_counted(p, &p->view[i]) ? members_then(&p->view[i], at) : 0;
        for (size_t k = 0; k < n; k++) {
            p->count[at[k]]++;
        }
    }
}

/* Of a chain of the class with `place` in it: whom that meets there. */
static void tally_pairs(struct plan *p, const struct view *v, uint32_t place,
                        const struct view *other)
{
    uint32_t at[CLUSTER_MEMBERS_MAX + 1];
    size_t n = other->class == v->class ? members_then(other, at) : 0, in = 0;
    p->sum.looks++;
    while (in < n && at[in] != place) {
        in++;
    }
    for (size_t i = 0; i < n && in < n; i++) {
        p->pairs[at[i]]++;
    }
}

static void tally_place(struct plan *p, const struct view *v, uint32_t place)
{
    for (size_t i = p->seats_from[place]; i < p->seats_from[place + 1]; i++) {
        tally_pairs(p, v, place, &p->view[p->seats[i]]);
    }
    for (size_t i = 0; i < p->moves; i++) { /* what it has come into just now */
        const struct view *other = &p->view[p->move[i].chain];
        if (other->joined == place) {
            tally_pairs(p, v, place, other);
        }
    }
}

static void tally(struct plan *p, const struct view *v)
{
    tally_group(p, v);
    memset(p->pairs, 0, p->f->place_count * sizeof *p->pairs);
    for (size_t i = 0; i < v->row->count; i++) {
        if (v->at[i] != NOWHERE) {
            tally_place(p, v, v->at[i]);
        }
    }
    if (v->joined != NOWHERE) {
        tally_place(p, v, v->joined);
    }
}

/* A member goes that was counted, or one comes: row->count and NOWHERE are none. */
static void plan_change(struct plan *p, struct view *v, uint32_t joined, size_t goes)
{
    CHECK(v->joined == NOWHERE && v->goes == v->row->count);
    v->joined = joined;
    v->goes = goes;
    if (is_counted(p, v)) {
        if (joined != NOWHERE) {
            p->count[joined]++;
        }
        if (goes < v->row->count && kept(v, goes)) {
            p->count[v->at[goes]]--;
        }
    }
}

static double relative(const struct plan *p, uint32_t place, uint32_t more)
{
    uint32_t weight = p->f->place[place].target.weight;
    return (double)(p->count[place] + more) / (double)(weight == 0 ? 1 : weight);
}

static bool may_get(const struct plan *p, const struct view *v, uint32_t place)
{
    const struct cluster_place *x = &p->f->place[place];
    return x->usable && !x->leaves && x->target.weight > 0 && v->class->suits[place] &&
           !is_member(v, place);
}

static bool source_is_free(const struct plan *p, const struct view *v)
{
    uint32_t source = v->at[v->serving - 1];
    return source == NOWHERE || p->active[source] < p->f->per_target;
}

/* ---- Moves ---- */

static void move_add(struct plan *p, size_t chain, enum cluster_move_kind kind, uint32_t target)
{
    p->view[chain].done = true;
    if (p->moves < p->max) {
        p->move[p->moves++] = (struct cluster_move){.kind = kind, .chain = chain, .target = target};
    }
}

/* `goes`: the member that it will replace, or row->count. */
static void move_join(struct plan *p, size_t chain, uint32_t place, size_t goes)
{
    struct view *v = &p->view[chain];
    uint32_t source = v->at[v->serving - 1];
    if (p->moves == p->max) {
        return;
    }
    move_add(p, chain, CLUSTER_MOVE_JOIN, p->f->place[place].target.id);
    plan_change(p, v, place, goes);
    p->active[place]++;
    if (source != NOWHERE) {
        p->active[source]++;
    }
    p->sum.making++;
}

static void move_away(struct plan *p, size_t chain, size_t member)
{
    const struct view *v = &p->view[chain];
    enum proto_member_state s = state_of(v, member);
    bool in_path = s == PROTO_MEMBER_SERVING || s == PROTO_MEMBER_SYNCING;
    move_add(p, chain, in_path ? CLUSTER_MOVE_REVOKE : CLUSTER_MOVE_DROP,
             v->row->member[member].target);
}

/* With more kept members than copies: the one to do without. What is offline was made to stop for
 * that, or has failed on its way in. */
static size_t surplus_choose(struct plan *p, const struct view *v)
{
    size_t best = v->row->count;
    unsigned best_clashes = 0;
    double best_load = 0;
    for (size_t i = v->serving; i < v->row->count && v->serving >= v->class->copies; i++) {
        if (kept(v, i) && state_of(v, i) == PROTO_MEMBER_OFFLINE) {
            return i;
        }
    }
    tally(p, v);
    for (size_t i = 0; i < v->row->count; i++) {
        if (!kept(v, i)) {
            continue;
        }
        unsigned left = clashes(p, v, i);
        double load = relative(p, v->at[i], 0);
        if (best == v->row->count || left < best_clashes ||
            (left == best_clashes && load > best_load)) {
            best = i;
            best_clashes = left;
            best_load = load;
        }
    }
    return best;
}

/* Members that go, now that enough serve without them. */
static void leave(struct plan *p, size_t chain)
{
    struct view *v = &p->view[chain];
    size_t copies = v->class->copies;
    bool stays = false; /* a bad one does, as too few serve */
    if (v->done || v->serving < copies) {
        return;
    }
    for (size_t i = v->row->count; i-- > 0;) {
        bool may = state_of(v, i) != PROTO_MEMBER_SERVING || v->serving > copies;
        if (kept(v, i) || v->row->member[i].aside) {
            continue;
        }
        if (may) { /* the last one first: what is not in the path */
            move_away(p, chain, i);
            return;
        }
        stays = true;
    }
    if (v->goes < v->row->count && !stays &&
        (state_of(v, v->goes) != PROTO_MEMBER_SERVING || v->serving > copies)) {
        move_away(p, chain, v->goes);
    }
}

/* Is `a` better than `b` for what has been tallied? */
static bool joins_better(const struct plan *p, uint32_t a, uint32_t b, uint32_t heir)
{
    bool heir_a = p->f->place[a].target.id == heir, heir_b = p->f->place[b].target.id == heir;
    double load_a = relative(p, a, 1), load_b = relative(p, b, 1);
    if (heir_a != heir_b) {
        return heir_a;
    }
    return load_a < load_b || (load_a <= load_b && p->pairs[a] < p->pairs[b]);
}

static uint32_t heir_of(const struct plan *p, const struct view *v)
{
    for (size_t i = 0; i < v->row->count; i++) {
        if (!kept(v, i) && v->at[i] != NOWHERE && p->f->place[v->at[i]].heir != 0) {
            return p->f->place[v->at[i]].heir;
        }
    }
    return 0;
}

/* The fewest clashes that any target would bring, also one that has enough to do; UINT_MAX: there
 * is none. */
static unsigned fewest_clashes(const struct plan *p, const struct view *v)
{
    unsigned fewest = UINT32_MAX;
    for (uint32_t i = 0; i < p->f->place_count; i++) {
        if (may_get(p, v, i)) {
            unsigned n = clashes_with(p, v, i, v->row->count);
            fewest = n < fewest ? n : fewest;
        }
    }
    return fewest;
}

/* One more member for a chain that has too few. */
static void fill(struct plan *p, size_t chain)
{
    struct view *v = &p->view[chain];
    unsigned fewest = fewest_clashes(p, v);
    uint32_t best = NOWHERE, heir = heir_of(p, v);
    if (fewest == UINT32_MAX || v->row->count == CLUSTER_MEMBERS_MAX) {
        p->sum.stuck++;
        return;
    }
    if (!source_is_free(p, v)) {
        return;
    }
    tally(p, v);
    for (uint32_t i = 0; i < p->f->place_count; i++) {
        bool is_heir = p->f->place[i].target.id == heir; /* is waited for */
        if (!may_get(p, v, i) || clashes_with(p, v, i, v->row->count) > fewest ||
            (p->active[i] >= p->f->per_target && !is_heir)) {
            continue;
        }
        best = best == NOWHERE || joins_better(p, i, best, heir) ? i : best;
    }
    if (best != NOWHERE && p->active[best] < p->f->per_target) {
        move_join(p, chain, best, v->row->count);
    }
}

static int order_compare(const void *a, const void *b)
{
    const struct order *x = a, *y = b;
    if (x->first != y->first) {
        return x->first < y->first ? -1 : 1;
    }
    if (x->second != y->second) {
        return x->second < y->second ? -1 : 1;
    }
    return x->chain < y->chain ? -1 : x->chain > y->chain ? 1 : 0;
}

/* Chains that lack a member, those first that have fewest of their copies. */
static void fill_all(struct plan *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->f->chain_count; i++) {
        const struct view *v = &p->view[i];
        if (v->class == NULL || v->done || v->joins || v->kept >= v->class->copies) {
            continue;
        }
        p->order[n++] = (struct order){.first = v->serving * CLUSTER_MEMBERS_MAX / v->class->copies,
                                       .second = v->serving,
                                       .chain = i};
    }
    qsort(p->order, n, sizeof *p->order, order_compare);
    for (size_t i = 0; i < n && p->moves < p->max; i++) {
        fill(p, p->order[i].chain);
    }
}

/* ---- Evening out ---- */

static bool is_whole(const struct view *v)
{
    return v->class != NULL && !v->done && v->bad == 0 && v->joined == NOWHERE &&
           v->kept == v->class->copies && v->serving == v->class->copies &&
           v->row->count == v->class->copies;
}

/* A member that clashes: is there a target in whose place none would? */
static void part(struct plan *p, size_t chain)
{
    struct view *v = &p->view[chain];
    unsigned now = v->class == NULL || v->done ? 0 : clashes(p, v, v->row->count), least = now;
    uint32_t best = NOWHERE;
    size_t goes = 0;
    p->sum.clashing += now > 0 ? 1 : 0;
    if (now == 0 || !is_whole(v) || !p->f->balance || !source_is_free(p, v)) {
        return;
    }
    tally(p, v);
    for (uint32_t i = 0; i < p->f->place_count; i++) {
        if (!may_get(p, v, i) || p->active[i] >= p->f->per_target) {
            continue;
        }
        for (size_t j = 0; j < v->row->count; j++) {
            unsigned then = clashes(p, v, j) + clashes_with(p, v, i, j);
            if (then < least || (then == least && best != NOWHERE && joins_better(p, i, best, 0))) {
                least = then;
                best = i;
                goes = j;
            }
        }
    }
    if (best != NOWHERE && v->row->count < CLUSTER_MEMBERS_MAX) {
        move_join(p, chain, best, goes);
    }
}

struct even {
    size_t low, high;   /* of p->order: the chains of one group */
    size_t chain, goes; /* the best so far, and what it is worth */
    uint32_t place;
    double gain;
    unsigned pairs;
};

/* The member that surplus_choose() would take away, if `place` came. */
static size_t even_victim(const struct plan *p, const struct view *v, uint32_t place)
{
    size_t best = v->row->count;
    for (size_t i = 0; i < v->row->count; i++) {
        bool fits = clashes(p, v, i) + clashes_with(p, v, place, i) <= clashes(p, v, v->row->count);
        if (fits &&
            (best == v->row->count || relative(p, v->at[i], 0) > relative(p, v->at[best], 0))) {
            best = i;
        }
    }
    return best;
}

static unsigned even_pairs(const struct plan *p, const struct view *v)
{
    unsigned pairs = 0;
    for (size_t i = 0; i < v->row->count; i++) {
        pairs += p->pairs[v->at[i]];
    }
    return pairs;
}

/* What would it help to have `place` in this chain? */
static void even_look(const struct plan *p, struct even *e, size_t chain, uint32_t place)
{
    const struct view *v = &p->view[chain];
    if (!is_whole(v) || !may_get(p, v, place) || !source_is_free(p, v)) {
        return;
    }
    size_t victim = even_victim(p, v, place);
    if (victim == v->row->count) {
        return;
    }
    double gain = relative(p, v->at[victim], 0) - relative(p, place, 1);
    unsigned pairs = even_pairs(p, v);
    bool better = e->place == NOWHERE || gain > e->gain || (gain >= e->gain && pairs < e->pairs);
    if (gain > 0 && better) {
        e->chain = chain;
        e->goes = victim;
        e->place = place;
        e->gain = gain;
        e->pairs = pairs;
    }
}

/* The count of the group; pairs: chains of it that `place` is in, by whom it meets there. */
static void even_tally(struct plan *p, const struct even *e, uint32_t place)
{
    struct cluster_row row = {.born = p->view[p->order[e->low].chain].row->born};
    struct view v = {.row = &row, .class = p->view[p->order[e->low].chain].class, .joined = place};
    tally(p, &v);
}

/* The target with least that may get one now. */
static uint32_t even_lowest(const struct plan *p, const struct even *e)
{
    const struct cluster_moves_class *k = p->view[p->order[e->low].chain].class;
    uint32_t best = NOWHERE;
    for (uint32_t i = 0; i < p->f->place_count; i++) {
        const struct cluster_place *x = &p->f->place[i];
        bool may = x->usable && !x->leaves && x->target.weight > 0 && k->suits[i] &&
                   p->active[i] < p->f->per_target;
        if (may && (best == NOWHERE || relative(p, i, 1) < relative(p, best, 1))) {
            best = i;
        }
    }
    return best;
}

/* By how many members the targets of the group are above their shares. */
static size_t even_left(const struct plan *p, const struct even *e)
{
    const struct cluster_moves_class *k = p->view[p->order[e->low].chain].class;
    uint64_t slots = 0, weight = 0;
    size_t left = 0;
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < p->f->place_count; i++) {
            const struct cluster_place *x = &p->f->place[i];
            if (!x->usable || x->leaves || !k->suits[i]) {
                continue;
            }
            if (round == 0) {
                slots += p->count[i];
                weight += x->target.weight;
            } else if (weight > 0) {
                uint64_t share = (slots * x->target.weight + weight - 1) / weight;
                left += p->count[i] > share ? p->count[i] - (size_t)share : 0;
            }
        }
    }
    return left;
}

static void even_group(struct plan *p, size_t low, size_t high)
{
    struct even e = {.low = low, .high = high};
    size_t begun = 0;
    even_tally(p, &e, NOWHERE);
    size_t left = even_left(p, &e);
    for (; begun < EVEN_AT_ONCE && p->moves < p->max; begun++) {
        uint32_t place = even_lowest(p, &e);
        if (place == NOWHERE) {
            break;
        }
        even_tally(p, &e, place);
        e.place = NOWHERE;
        for (size_t i = low; i < high; i++) {
            even_look(p, &e, p->order[i].chain, place);
        }
        if (e.place == NOWHERE) {
            break;
        }
        move_join(p, e.chain, e.place, e.goes);
        even_tally(p, &e, NOWHERE);
    }
    /* What no move would make better is as even as it can be. */
    p->sum.uneven += begun > 0 || p->sum.making > 0 ? base_max(left, begun) : 0;
}

static void even_all(struct plan *p)
{
    size_t n = 0, high;
    for (size_t i = 0; i < p->f->chain_count; i++) {
        if (p->view[i].class != NULL) {
            p->order[n++] = (struct order){
                .first = p->view[i].row->born, .second = p->view[i].class->id, .chain = i};
        }
    }
    qsort(p->order, n, sizeof *p->order, order_compare);
    for (size_t low = 0; low < n && p->moves < p->max; low = high) {
        for (high = low + 1; high < n && p->order[high].first == p->order[low].first &&
                             p->order[high].second == p->order[low].second;
             high++) {
        }
        even_group(p, low, high);
    }
}

/* ---- The plan ---- */

/* Which chains each target is in. */
static void plan_seats(struct plan *p)
{
    for (size_t i = 0; i < p->f->chain_count; i++) {
        const struct view *v = &p->view[i];
        for (size_t k = 0; k < v->row->count && v->class != NULL; k++) {
            p->seats_from[v->at[k] == NOWHERE ? p->f->place_count : v->at[k]]++;
        }
    }
    size_t from = 0;
    for (size_t i = 0; i <= p->f->place_count; i++) { /* ends, then beginnings */
        from += p->seats_from[i];
        p->seats_from[i] = from;
    }
    for (size_t i = 0; i < p->f->chain_count; i++) {
        const struct view *v = &p->view[i];
        for (size_t k = 0; k < v->row->count && v->class != NULL; k++) {
            size_t place = v->at[k] == NOWHERE ? p->f->place_count : v->at[k];
            p->seats[--p->seats_from[place]] = (uint32_t)i;
        }
    }
}

static void plan_run(struct plan *p)
{
    for (size_t i = 0; i < p->f->chain_count; i++) {
        view_make(p, i);
    }
    plan_seats(p);
    for (size_t i = 0; i < p->f->chain_count; i++) { /* moves under way, one after the other */
        struct view *v = &p->view[i];
        if (v->class != NULL && v->kept > v->class->copies) {
            plan_change(p, v, NOWHERE, surplus_choose(p, v));
            p->sum.uneven++;
        }
    }
    for (size_t i = 0; i < p->f->chain_count; i++) {
        if (p->view[i].class != NULL) {
            leave(p, i);
        }
    }
    fill_all(p);
    for (size_t i = 0; i < p->f->chain_count; i++) {
        part(p, i);
    }
    if (p->f->balance) {
        even_all(p);
    }
}

int cluster_moves_plan(const struct cluster_moves_facts *facts, struct cluster_move *ret,
                       size_t max, size_t *ret_count, struct cluster_moves_sum *ret_sum)
{
    size_t places = facts->place_count + 1, chains = facts->chain_count + 1, seats = 1;
    for (size_t i = 0; i < facts->chain_count; i++) {
        seats += facts->chain[i].row->count;
    }
    struct plan p = {.f = facts,
                     .view = mem_calloc(chains, sizeof *p.view),
                     .order = mem_calloc(chains, sizeof *p.order),
                     .active = mem_calloc(places, sizeof *p.active),
                     .count = mem_calloc(places, sizeof *p.count),
                     .pairs = mem_calloc(places, sizeof *p.pairs),
                     .seats_from = mem_calloc(places, sizeof *p.seats_from),
                     .seats = mem_calloc(seats, sizeof *p.seats),
                     .move = ret,
                     .max = max};
    bool room = p.view != NULL && p.order != NULL && p.active != NULL && p.count != NULL &&
                p.pairs != NULL && p.seats_from != NULL && p.seats != NULL;
    if (room) {
        plan_run(&p);
        *ret_count = p.moves;
        *ret_sum = p.sum;
    }
    mem_free(p.view);
    mem_free(p.order);
    mem_free(p.active);
    mem_free(p.count);
    mem_free(p.pairs);
    mem_free(p.seats_from);
    mem_free(p.seats);
    return room ? 0 : -ENOMEM;
}

void cluster_move_row(const struct cluster_row *row, const struct cluster_move *move,
                      struct cluster_row *ret)
{
    struct cluster_row next = *row;
    size_t at = cluster_row_find(row, move->target);
    next.epoch++;
    if (move->kind == CLUSTER_MOVE_JOIN) {
        CHECK(at == row->count && row->count < CLUSTER_MEMBERS_MAX);
        next.member[next.count++] =
            (struct cluster_member){.target = move->target, .state = PROTO_MEMBER_WAITING};
    } else {
        CHECK(move->kind == CLUSTER_MOVE_DROP && at < row->count);
        next.count--;
        for (size_t i = at; i < next.count; i++) {
            next.member[i] = next.member[i + 1];
        }
        next.member[next.count] = (struct cluster_member){0};
    }
    CHECK(cluster_row_valid(&next));
    *ret = next;
}
