/*
 * metanode/chain.c -- rows of chains and the facts that change them (chain.md section 4). What is
 * heard of a member becomes a fact; cluster_chain_step() says what follows; that row goes through
 * the log, one at a time per chain; when it was applied, members are told and the next step is
 * taken. Nothing here decides: R1 to R4 and T1 to T3 are cluster/'s.
 */
#include "metanode/promote_priv.h"

#include "base/log.h"

struct chain_proposal {
    struct metanode_waiter waiter;
    struct metanode_chain_told *told; /* NULL: nobody waits */
    struct metanode *m;
    uint32_t chain;
};

static bool chain_equal(const struct dict_node *node, const void *key)
{
    return container_of(node, const struct metanode_chain, node)->row.chain ==
           *(const uint32_t *)key;
}

static void chain_dropped(struct dict_node *node, void *owner)
{
    (void)owner;
    mem_free(container_of(node, struct metanode_chain, node));
}

static const struct dict_ops chain_dict_ops = {.equal = chain_equal, .dropped = chain_dropped};

static void chains_step(struct loop_task *task);
static void chains_tick(struct loop_timer *timer);

int metanode_chains_init(struct metanode *m)
{
    struct metanode_chains *cs = &m->chains;
    dict_init(&cs->by_id, &chain_dict_ops, m, 0);
    list_init(&cs->all);
    list_init(&cs->dirty);
    list_init(&cs->thin);
    list_init(&cs->revokes);
    metanode_seats_init(m);
    cs->task.run = chains_step;
    cs->tick.fire = chains_tick;
    return 0;
}

void metanode_chains_fini(struct metanode *m)
{
    if (m->chains.by_id.ops != NULL) {
        loop_undefer(m->env->loop, &m->chains.task);
        loop_timer_cancel(m->env->loop, &m->chains.tick);
        metanode_revokes_fini(m);
        dict_fini(&m->chains.by_id);
        metanode_seats_fini(m);
    }
}

void metanode_chains_start(struct metanode *m)
{
    loop_timer_in(m->env->loop, &m->chains.tick, m->opt.heartbeat_ms * METANODE_NS_PER_MS);
}

struct metanode_chain *metanode_chain_find(struct metanode *m, uint32_t id)
{
    struct dict *d = &m->chains.by_id;
    struct dict_node *node = dict_find(d, dict_hash_u64(d, id), &id);
    return node == NULL ? NULL : container_of(node, struct metanode_chain, node);
}

void metanode_chain_touch(struct metanode_chain *c)
{
    struct metanode *m = c->m;
    if (list_empty(&c->dirty)) {
        list_push_back(&m->chains.dirty, &c->dirty);
    }
    loop_defer(m->env->loop, &m->chains.task);
}

static bool chain_is_active(enum proto_member_state s)
{
    return s == PROTO_MEMBER_SERVING || s == PROTO_MEMBER_SYNCING || s == PROTO_MEMBER_WAITING;
}

static void chain_gone(struct metanode_chain *c, size_t i)
{
    struct cluster_fact *f = &c->fact[i];
    f->present = false;
    if (!f->gone) {
        f->gone = true;
        f->gone_ns = metanode_now(c->m);
    }
    metanode_chain_touch(c);
}

void metanode_chains_gone(struct metanode *m, uint32_t target)
{
    LIST_FOR_EACH(node, metanode_seats_of(m, target))
    {
        struct metanode_seat *seat = LIST_ENTRY(node, struct metanode_seat, node);
        chain_gone(seat->chain, metanode_seat_place(seat));
    }
}

void metanode_chains_registered(struct metanode *m, const struct metanode_target *t, bool newer)
{
    LIST_FOR_EACH(node, metanode_seats_of(m, t->id))
    {
        struct metanode_seat *seat = LIST_ENTRY(node, struct metanode_seat, node);
        struct metanode_chain *c = seat->chain;
        size_t i = metanode_seat_place(seat);
        struct cluster_fact *f = &c->fact[i];
        f->intact = !t->lossy;
        if (newer) {
            f->known_epoch = 0;
            f->synced_epoch = 0;
            chain_gone(c, i); /* R4: also one that was back before anybody missed it */
        }
    }
}

void metanode_chain_heard(struct metanode_chain *c, const struct metanode_target *t,
                          const struct proto_chain_report *report)
{
    size_t i = cluster_row_find(&c->row, t->id);
    if (i == c->row.count) {
        return;
    }
    struct cluster_fact *f = &c->fact[i];
    f->known_epoch = report->epoch;
    f->heard_ns = t->heard_ns;
    f->held = report->held <= PROTO_HELD_PART ? (enum proto_held)report->held : PROTO_HELD_UNKNOWN;
    if (report->report == PROTO_REPORT_GONE) {
        if (!f->gone) { /* no space, say: not at once again */
            c->hold_until_ns[i] =
                base_max(c->hold_until_ns[i], metanode_now(c->m) + metanode_lease_ns(c->m));
        }
        chain_gone(c, i);
        return;
    }
    f->present = true;
    f->gone = f->gone && chain_is_active(c->row.member[i].state);
    f->synced_epoch = report->report == PROTO_REPORT_SYNCED ? report->synced_epoch : 0;
    metanode_chain_touch(c);
}

bool metanode_chains_settled(struct metanode *m, uint32_t target, bool known)
{
    LIST_FOR_EACH(node, metanode_seats_of(m, target))
    {
        const struct metanode_seat *seat = LIST_ENTRY(node, struct metanode_seat, node);
        const struct metanode_chain *c = seat->chain;
        size_t i = metanode_seat_place(seat);
        m->chains.visits++;
        if ((c->fact[i].gone && chain_is_active(c->row.member[i].state)) ||
            (known && c->fact[i].known_epoch < c->must_know[i])) {
            return false;
        }
    }
    return true;
}

/* Marks what a target has reported at its seats, for one look. */
static void chains_mark(struct metanode *m, uint32_t target,
                        const struct proto_chain_report_list *known)
{
    m->chains.heartbeats++;
    for (size_t i = 0; known != NULL && i < known->count; i++) {
        struct metanode_chain *c = metanode_chain_find(m, known->at[i].chain);
        size_t place = c == NULL ? 0 : cluster_row_find(&c->row, target);
        m->chains.visits++;
        if (c != NULL && place < c->row.count && c->seat[place].heartbeat != m->chains.heartbeats) {
            c->seat[place].heartbeat = m->chains.heartbeats;
            c->seat[place].epoch = known->at[i].epoch;
        }
    }
}

static int chain_row_in(struct mem_arena *a, const struct cluster_row *row, struct proto_row *ret)
{
    struct proto_member *members = mem_arena_alloc(a, row->count * sizeof *members);
    bool more = cluster_row_rest_count(row) > 0;
    struct cluster_row_rest *rest = more ? mem_arena_alloc(a, sizeof *rest) : NULL;
    if (members == NULL || (more && rest == NULL)) {
        return -ENOMEM;
    }
    cluster_row_to_proto(row, members, ret);
    if (more) {
        cluster_row_rest_to_proto(row, rest, ret);
    }
    return 0;
}

int metanode_chains_rows(struct metanode *m, uint32_t target,
                         const struct proto_chain_report_list *known, struct mem_arena *a,
                         struct proto_row_list *ret)
{
    struct proto_row_list rows = {0};
    size_t room = 0;
    chains_mark(m, target, known);
    LIST_FOR_EACH(node, metanode_seats_of(m, target))
    {
        const struct metanode_seat *seat = LIST_ENTRY(node, struct metanode_seat, node);
        const struct metanode_chain *c = seat->chain;
        bool reported = seat->heartbeat == m->chains.heartbeats;
        m->chains.visits++;
        if (reported && seat->epoch == c->row.epoch) {
            continue;
        }
        if (rows.count == room) { /* doubling in the arena wastes as much again, and no more */
            size_t more = room == 0 ? 16 : room * 2;
            struct proto_row *at = mem_arena_alloc(a, more * sizeof *at);
            if (at == NULL) {
                return -ENOMEM;
            }
            if (room > 0) {
                memcpy(at, rows.at, room * sizeof *at);
            }
            rows.at = at;
            room = more;
        }
        int rc = chain_row_in(a, &c->row, &rows.at[rows.count++]);
        if (rc < 0) {
            return rc;
        }
    }
    *ret = rows;
    return 0;
}

int metanode_chains_left(struct metanode *m, uint32_t target,
                         const struct proto_chain_report_list *known, struct mem_arena *a,
                         struct proto_row_list *rows, bool *ret_left)
{
    struct proto_row_list all = *rows;
    *ret_left = false;
    for (size_t i = 0; i < known->count; i++) {
        const struct metanode_chain *c = metanode_chain_find(m, known->at[i].chain);
        bool member = c != NULL && cluster_row_find(&c->row, target) < c->row.count;
        /* An earlier version names what it has left for ever; by this epoch it knows that. */
        if (c == NULL || member || known->at[i].epoch == c->row.epoch) {
            continue;
        }
        if (!*ret_left) { /* room for all that may follow */
            all.at = mem_arena_alloc(a, (rows->count + known->count) * sizeof *all.at);
            if (all.at == NULL) {
                return -ENOMEM;
            }
            if (rows->count > 0) {
                memcpy(all.at, rows->at, rows->count * sizeof *all.at);
            }
        }
        *ret_left = true;
        int rc = chain_row_in(a, &c->row, &all.at[all.count++]);
        if (rc < 0) {
            return rc;
        }
    }
    *rows = all;
    return 0;
}

static void chain_tell(struct metanode_chain *c, uint32_t target,
                       const struct proto_row_changed_push *push)
{
    struct metanode_target *t = metanode_target_find(c->m, target);
    if (t != NULL && t->link != NULL && peer_link_push(t->link, PROTO_OP_row_changed, push) < 0) {
        return; /* its next heartbeat's answer has the row */
    }
}

/* To its members, and to those that were until now. */
static void chain_publish(struct metanode_chain *c, const struct cluster_row *old)
{
    struct proto_member members[CLUSTER_MEMBERS_MAX];
    struct cluster_row_rest rest;
    struct proto_row_changed_push push;
    cluster_row_to_proto(&c->row, members, &push.row);
    cluster_row_rest_to_proto(&c->row, &rest, &push.row);
    for (size_t i = 0; i < c->row.count; i++) {
        chain_tell(c, c->row.member[i].target, &push);
    }
    for (size_t i = 0; i < old->count; i++) {
        if (cluster_row_find(&c->row, old->member[i].target) == c->row.count) {
            chain_tell(c, old->member[i].target, &push);
            c->m->moves.done++;
            c->m->moves.done_bytes += c->bytes;
        }
    }
}

static bool chain_is_dark(const struct cluster_row *row)
{
    return cluster_row_serving_count(row) == 0;
}

/* Has it ended between the plan of a row and the row? Then nobody says so any more. One that is
 * only not known yet has its expiry before it. */
static bool chain_came_late(struct metanode *m, uint32_t target)
{
    const struct metanode_target *t = metanode_target_find(m, target);
    return m->phase == METANODE_SERVING &&
           (t == NULL || (!t->alive && !loop_timer_active(&t->expiry)));
}

static void chain_join(struct metanode_chain *c, size_t i, const struct cluster_member *joined)
{
    uint64_t now_ns = metanode_now(c->m);
    c->fact[i] = (struct cluster_fact){.intact = true};
    c->must_know[i] = 0;
    c->hold_until_ns[i] = 0;
    bool away = joined->state == PROTO_MEMBER_OFFLINE && !joined->aside;
    c->away_since_ns[i] = away ? now_ns : 0;
    if (chain_came_late(c->m, joined->target)) {
        c->fact[i].gone = true;
        c->fact[i].gone_ns = now_ns;
    }
}

/* One that waits is not back before it may come in: see chain_step(). */
static uint64_t chain_away_since(const struct metanode_chain *c, uint64_t before_ns,
                                 enum proto_member_state now)
{
    bool out = now == PROTO_MEMBER_OFFLINE || now == PROTO_MEMBER_WAITING;
    return !out ? 0 : before_ns != 0 ? before_ns : metanode_now(c->m);
}

/* The facts follow their members to the places of the new row. */
static void chain_move(struct metanode_chain *c, const struct cluster_row *next)
{
    struct metanode_chain old = *c;
    for (size_t i = 0; i < next->count; i++) {
        size_t from = cluster_row_find(&old.row, next->member[i].target);
        enum proto_member_state now = next->member[i].state;
        if (from == old.row.count) {
            chain_join(c, i, &next->member[i]);
            continue;
        }
        c->fact[i] = old.fact[from];
        c->must_know[i] = old.must_know[from];
        c->hold_until_ns[i] = old.hold_until_ns[from];
        c->away_since_ns[i] = old.away_since_ns[from];
        if (old.row.member[from].state != now) {
            struct cluster_fact *f = &c->fact[i];
            f->gone = f->gone && !f->present;
            f->intact = f->intact || now == PROTO_MEMBER_SERVING;
            f->synced_epoch = 0;
            c->away_since_ns[i] = chain_away_since(c, old.away_since_ns[from], now);
            c->must_know[i] =
                now == PROTO_MEMBER_OFFLINE || now == PROTO_MEMBER_LAST_SERVING ? next->epoch : 0;
        }
        if (next->member[i].aside != old.row.member[from].aside) { /* aside: not waited for */
            c->away_since_ns[i] = next->member[i].aside ? 0 : chain_away_since(c, 0, now);
        }
    }
    if (chain_is_dark(next) && !chain_is_dark(&old.row)) {
        c->dark_since_ns = metanode_now(c->m);
    }
    c->row = *next;
    metanode_seats_take(c, old.row.count);
    list_remove(&c->thin);
    if (cluster_row_serving_count(&c->row) < c->row.count) {
        list_push_back(&c->m->chains.thin, &c->thin);
    }
}

static struct metanode_chain *chain_new(struct metanode *m, const struct cluster_row *row)
{
    struct metanode_chain *c = mem_zalloc(sizeof *c);
    struct dict *d = &m->chains.by_id;
    if (c == NULL) {
        return NULL;
    }
    c->m = m;
    c->row.chain = row->chain;
    list_init(&c->dirty);
    list_init(&c->thin);
    if (dict_insert(d, dict_hash_u64(d, row->chain), &c->node) < 0) {
        mem_free(c);
        return NULL;
    }
    list_push_back(&m->chains.all, &c->all);
    m->chains.count++;
    c->dark_since_ns = metanode_now(m);
    return c;
}

int metanode_chain_put(struct metanode *m, const struct proto_row *from)
{
    struct cluster_row row;
    char text[512];
    int rc = cluster_row_from_proto(from, &row);
    if (rc < 0) {
        return rc;
    }
    rc = metanode_seats_reserve(m, &row);
    if (rc < 0) {
        return rc;
    }
    struct metanode_chain *c = metanode_chain_find(m, row.chain);
    bool fresh = c == NULL;
    c = fresh ? chain_new(m, &row) : c;
    if (c == NULL) {
        return -ENOMEM;
    }
    row.class_id = row.class_id == 0 ? c->row.class_id : row.class_id;
    struct cluster_row old = c->row;
    chain_move(c, &row);
    if (m->phase == METANODE_SERVING) {
        cluster_row_to_text(&row, text, sizeof text);
        log_info(m->env->log, fresh ? "new chain" : "row changed", LOG_TEXT("row", text));
        chain_publish(c, &old);
        metanode_chain_touch(c);
        metanode_moves_touch(m);
    }
    return 0;
}

static void chain_proposed(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct chain_proposal *x = container_of(w, struct chain_proposal, waiter);
    struct metanode_chain *c = metanode_chain_find(x->m, x->chain);
    rc = rc == 0 ? reply->rc : rc;
    if (rc < 0) {
        log_warn(x->m->env->log, "cannot change a row", LOG_U64("chain", x->chain), LOG_RC(rc));
    }
    x->m->chains.proposing--;
    if (c != NULL) {
        c->proposing = false;
        if (rc == 0) { /* else the next fact or the tick tries again */
            metanode_chain_touch(c);
        }
    }
    if (x->told != NULL) {
        x->told->done(x->told, rc);
    }
    mem_free(x);
}

/* `told` may be NULL; it is not called when this fails. */
static int chain_propose(struct metanode_chain *c, const struct cluster_row *next,
                         struct metanode_chain_told *told)
{
    struct proto_member members[CLUSTER_MEMBERS_MAX];
    struct cluster_row_rest rest;
    struct proto_row row;
    struct namespace_rows_put put = {.rows = {.at = &row, .count = 1}};
    struct chain_proposal *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return -ENOMEM;
    }
    *x = (struct chain_proposal){
        .m = c->m, .told = told, .chain = c->row.chain, .waiter.done = chain_proposed};
    cluster_row_to_proto(next, members, &row);
    cluster_row_rest_to_proto(next, &rest, &row);
    c->proposing = true;
    c->m->chains.proposing++;
    int rc = metanode_propose(c->m, NAMESPACE_ROWS_PUT, &namespace_rows_put_type, &put, &x->waiter);
    if (rc < 0) {
        c->proposing = false;
        c->m->chains.proposing--;
        mem_free(x);
    }
    return rc;
}

/* It was taken out, and is not to come back yet. */
static bool chain_is_held(const struct metanode_chain *c, size_t i, uint64_t now_ns)
{
    const struct metanode_target *t = metanode_target_find(c->m, c->row.member[i].target);
    return c->hold_until_ns[i] > now_ns || (t != NULL && t->ejected);
}

void metanode_chain_change(struct metanode_chain *c, const struct cluster_row *next)
{
    if (!c->proposing && next->epoch == c->row.epoch + 1) {
        (void)chain_propose(c, next, NULL); /* else with the next look */
    }
}

int metanode_chain_order(struct metanode_chain *c, const struct cluster_row *next,
                         struct metanode_chain_told *told)
{
    CHECK(next->epoch == c->row.epoch + 1);
    return c->proposing ? -ERR_busy : chain_propose(c, next, told);
}

struct cluster_chain_times metanode_chain_times(const struct metanode_chain *c)
{
    const struct metanode *m = c->m;
    return (struct cluster_chain_times){.now_ns = metanode_now(m),
                                        .dark_since_ns = base_max(c->dark_since_ns, m->serve_ns),
                                        .dark_wait_ns = m->opt.dark_wait_ms * METANODE_NS_PER_MS,
                                        .wall_ms = metanode_wall_ms(m)};
}

static void chain_step(struct metanode_chain *c)
{
    struct cluster_fact fact[CLUSTER_MEMBERS_MAX];
    struct cluster_row next;
    const struct cluster_chain_times times = metanode_chain_times(c);
    if (c->proposing) {
        return;
    }
    for (size_t i = 0; i < c->row.count; i++) {
        enum proto_member_state s = c->row.member[i].state;
        bool out = s == PROTO_MEMBER_OFFLINE || s == PROTO_MEMBER_WAITING;
        fact[i] = c->fact[i];
        fact[i].present = fact[i].present && !(out && chain_is_held(c, i, times.now_ns));
        if (s == PROTO_MEMBER_WAITING) { /* dead, ejected, without its row: as good as offline */
            c->away_since_ns[i] = fact[i].present            ? 0
                                  : c->away_since_ns[i] != 0 ? c->away_since_ns[i]
                                                             : times.now_ns;
        }
    }
    if (cluster_chain_step(&c->row, fact, &times, &next)) {
        (void)chain_propose(c, &next, NULL); /* else the tick tries again */
    }
}

static void chains_step(struct loop_task *task)
{
    struct metanode *m = container_of(task, struct metanode, chains.task);
    struct list *node;
    while (m->phase == METANODE_SERVING && m->stop == NULL &&
           (node = list_pop_front(&m->chains.dirty)) != NULL) {
        chain_step(LIST_ENTRY(node, struct metanode_chain, dirty));
    }
}

/* What only time changes: R3's wait, holds, proposals that failed. */
static void chains_tick(struct loop_timer *timer)
{
    struct metanode *m = container_of(timer, struct metanode, chains.tick);
    LIST_FOR_EACH(node, &m->chains.thin)
    {
        m->chains.visits++;
        metanode_chain_touch(LIST_ENTRY(node, struct metanode_chain, thin));
    }
    loop_timer_in(m->env->loop, timer, m->opt.heartbeat_ms * METANODE_NS_PER_MS);
}
