/*
 * metanode/moves.c -- does what cluster/moves.h says, one step per chain at a time: a member joins
 * (a row), is asked to stop (R5), or goes (a row). What is under way is in the rows, what is wanted
 * in the records of the targets and of the cluster; so a later leader goes on by looking. It looks
 * when something has changed, and from time to time for what only time changes.
 */
#include "metanode/write_priv.h"

#include "base/log.h"

#define MOVES_CLASSES_MAX 256u
#define MOVES_AT_ONCE 64u
#define MOVES_SOON_NS (20 * METANODE_NS_PER_MS)

struct moves_look {
    struct metanode_read read;
    struct metanode *m;
    struct namespace_state state;
    struct proto_storage_class_list classes;
    /* Owned. */
    struct cluster_place *place;
    struct cluster_target *suit; /* of one class, while its domain is found out */
    struct cluster_moves_class *class;
    bool *suits; /* classes x places */
    struct metanode_chain **from;
    struct cluster_moves_chain *chain;
    size_t places, chains;
};

static struct moves_look *look_free(struct moves_look *l)
{
    mem_free(l->place);
    mem_free(l->suit);
    mem_free(l->class);
    mem_free(l->suits);
    mem_free(l->from);
    mem_free(l->chain);
    mem_free(l);
    return NULL;
}

static int look_alloc(struct moves_look *l)
{
    struct metanode *m = l->m;
    size_t targets = m->targets.count + 1, classes = l->classes.count + 1;
    l->place = mem_calloc(targets, sizeof *l->place);
    l->suit = mem_calloc(targets, sizeof *l->suit);
    l->class = mem_calloc(classes, sizeof *l->class);
    l->suits = mem_calloc(targets * classes, sizeof *l->suits);
    l->from = mem_calloc(m->chains.count + 1, sizeof(struct metanode_chain *));
    l->chain = mem_calloc(m->chains.count + 1, sizeof *l->chain);
    bool room = l->place != NULL && l->suit != NULL && l->class != NULL && l->suits != NULL &&
                l->from != NULL && l->chain != NULL;
    return room ? 0 : -ENOMEM;
}

static void look_places(struct moves_look *l)
{
    LIST_FOR_EACH(node, &l->m->targets.all)
    { /* in order of their ids: as they were given */
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        bool up = t->alive && t->registered;
        l->place[l->places++] = (struct cluster_place){.target = metanode_target_place(t),
                                                       .usable = up && !t->low_space && !t->ejected,
                                                       .full = up && t->low_space,
                                                       .leaves = !metanode_target_stays(t),
                                                       .heir = t->heir};
    }
}

static void look_class(struct moves_look *l, size_t k)
{
    const struct proto_storage_class *class = &l->classes.at[k];
    bool *suits = l->suits + k * l->places;
    size_t i = 0, n = 0;
    LIST_FOR_EACH(node, &l->m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        suits[i] = metanode_target_suits(t, class->labels);
        if (suits[i] && !l->place[i].leaves && (l->place[i].usable || l->place[i].full)) {
            l->suit[n++] = l->place[i].target;
        }
        i++;
    }
    l->class[k] = (struct cluster_moves_class){.id = class->id,
                                               .copies = class->copies,
                                               .domain = metanode_table_domain(class, l->suit, n),
                                               .suits = suits};
}

static void look_chains(struct moves_look *l)
{
    uint64_t now = metanode_now(l->m), delay = l->m->opt.rebuild_ms * METANODE_NS_PER_MS;
    LIST_FOR_EACH(node, &l->m->chains.all)
    {
        struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        struct cluster_moves_chain *to = &l->chain[l->chains];
        *to = (struct cluster_moves_chain){.row = &c->row, .busy = c->proposing || c->revoking};
        for (size_t i = 0; i < c->row.count; i++) {
            uint64_t since = c->away_since_ns[i];
            enum proto_member_state s = c->row.member[i].state;
            bool active = s == PROTO_MEMBER_SERVING || s == PROTO_MEMBER_SYNCING;
            to->busy = to->busy || (active && c->fact[i].gone); /* the row is going to say so */
            to->lost |= since != 0 && now - since >= delay ? 1U << i : 0;
        }
        for (size_t i = 0; i < l->classes.count; i++) {
            bool own = l->classes.at[i].id == c->row.class_id;
            c->copies = own ? l->classes.at[i].copies : c->copies;
        }
        l->from[l->chains++] = c;
    }
}

/* Nobody counts bytes per chain: the mean of what its members have for each of theirs. */
static void look_bytes(struct moves_look *l)
{
    for (size_t i = 0; i < l->chains; i++) {
        l->from[i]->bytes = 0;
    }
    LIST_FOR_EACH(node, &l->m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        const struct list *seats = metanode_seats_of(l->m, t->id);
        uint64_t count = 0;
        LIST_FOR_EACH(at, seats)
        {
            count++;
        }
        LIST_FOR_EACH(at, seats)
        {
            struct metanode_chain *c = LIST_ENTRY(at, struct metanode_seat, node)->chain;
            c->bytes += t->used / count / c->row.count;
        }
    }
}

/* They come from its last serving member. Returns their bytes. */
static uint64_t look_copies(struct metanode_chain *c, unsigned count)
{
    size_t serving = count == 0 ? 0 : cluster_row_serving_count(&c->row);
    uint32_t id = serving == 0 ? 0 : c->row.member[serving - 1].target;
    struct metanode_target *source = id == 0 ? NULL : metanode_target_find(c->m, id);
    if (source != NULL) {
        source->to_copy += count * c->bytes;
    }
    return count * c->bytes;
}

/* Of the copies that are to be made. */
static uint64_t look_left(const struct moves_look *l, const struct cluster_moves_sum *sum)
{
    uint64_t left = 0, all = 0;
    LIST_FOR_EACH(node, &l->m->targets.all)
    {
        LIST_ENTRY(node, struct metanode_target, all)->to_copy = 0;
    }
    for (size_t i = 0; i < l->chains; i++) {
        all += l->from[i]->bytes;
        left += look_copies(l->from[i], (unsigned)__builtin_popcount(l->chain[i].lost));
    }
    LIST_FOR_EACH(node, &l->m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (metanode_target_stays(t)) {
            continue;
        }
        LIST_FOR_EACH(at, metanode_seats_of(l->m, t->id))
        {
            left += look_copies(LIST_ENTRY(at, struct metanode_seat, node)->chain, 1);
        }
    }
    return left + (l->chains == 0 ? 0 : all / l->chains * sum->uneven);
}

/* The source that needs the longest for its part, by what it may send; of what only lies unevenly
 * each has as much. */
static uint64_t look_rate_ms(const struct moves_look *l)
{
    uint64_t most = 0, known = 0;
    LIST_FOR_EACH(node, &l->m->targets.all)
    {
        known += LIST_ENTRY(node, struct metanode_target, all)->to_copy;
    }
    LIST_FOR_EACH(node, &l->m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        uint64_t rate = t->alive && t->has_figures ? t->figures.move_rate : 0;
        uint64_t uneven = (l->m->moves.left_bytes - known) / l->m->targets.count;
        double ms = (double)(t->to_copy + uneven) * 1000 / (double)base_max(rate, UINT64_C(1));
        most = rate == 0 ? most : base_max(most, (uint64_t)ms);
    }
    return most;
}

/* ---- What follows ---- */

struct moves_removed {
    struct metanode_target_write write;
    struct metanode *m;
};

static void moves_removed(struct metanode_target_write *w, int rc,
                          const struct namespace_reply *reply)
{
    struct moves_removed *x = container_of(w, struct moves_removed, write);
    if (rc == 0) { /* else the next look tries again */
        log_info(x->m->env->log, "target is removed", LOG_U64("target", reply->id));
    }
    mem_free(x);
}

static bool moves_is_member(struct metanode *m, uint32_t target)
{
    /* It may become one with a row that is under way. */
    return m->chains.proposing > 0 || !list_empty(metanode_seats_of(m, target));
}

/* What no chain names any more is removed, if it is to be. */
static void moves_remove(struct metanode *m)
{
    LIST_FOR_EACH(node, &m->targets.all)
    {
        struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        bool wanted = t->plan == PROTO_PLAN_REMOVE || t->plan == PROTO_PLAN_REPLACE;
        if (!wanted || m->tables.growing || moves_is_member(m, t->id)) {
            continue;
        }
        struct proto_target record = metanode_target_record(t);
        struct moves_removed *x = mem_zalloc(sizeof *x);
        if (x == NULL) {
            return;
        }
        *x = (struct moves_removed){.m = m, .write.done = moves_removed};
        record.plan = PROTO_PLAN_REMOVED;
        record.heir = 0;
        record.incarnation = t->logged;
        if (metanode_target_write(m, &x->write, &record) < 0) { /* it is on its way, say */
            mem_free(x);
        }
    }
}

static void moves_make(struct metanode_chain *c, const struct cluster_move *move)
{
    static const char *const names[] = {[CLUSTER_MOVE_JOIN] = "joins",
                                        [CLUSTER_MOVE_REVOKE] = "is asked to stop",
                                        [CLUSTER_MOVE_DROP] = "goes"};
    struct cluster_row next;
    log_info(c->m->env->log, "a member moves", LOG_U64("chain", c->row.chain),
             LOG_U64("target", move->target), LOG_TEXT("how", names[move->kind]));
    if (move->kind == CLUSTER_MOVE_REVOKE) {
        metanode_chain_revoke(c, move->target);
        return;
    }
    cluster_move_row(&c->row, move, &next);
    metanode_chain_change(c, &next);
}

static size_t moves_sum_left(const struct cluster_moves_sum *s)
{
    return s->leaving + s->lost + s->uneven;
}

static void moves_progress(struct metanode *m, const struct cluster_moves_sum *sum)
{
    struct metanode_moves *x = &m->moves;
    bool some = moves_sum_left(sum) > 0;
    if (some && x->begun_ns == 0) {
        x->begun_ns = metanode_now(m);
        x->done = 0;
        x->done_bytes = 0;
        log_info(m->env->log, "copies are to be moved", LOG_U64("leaving", sum->leaving),
                 LOG_U64("lost", sum->lost), LOG_U64("uneven", sum->uneven));
    } else if (!some && x->begun_ns != 0) {
        log_info(m->env->log, "no more copies are to be moved", LOG_U64("moved", x->done));
        x->begun_ns = 0;
    }
    x->sum = *sum;
}

size_t metanode_moves_left(const struct metanode *m, uint64_t *ret_ms)
{
    const struct metanode_moves *x = &m->moves;
    size_t left = moves_sum_left(&x->sum);
    uint64_t took_ms = x->begun_ns == 0 ? 0 : (metanode_now(m) - x->begun_ns) / METANODE_NS_PER_MS;
    bool bytes = x->done_bytes > 0 && x->left_bytes > 0; /* else all count as much */
    double rest = bytes ? (double)x->left_bytes / (double)x->done_bytes
                        : (double)left / (double)base_max(x->done, (size_t)1);
    uint64_t ms = x->done == 0 ? 0 : (uint64_t)((double)took_ms * rest);
    *ret_ms = left == 0 ? 0 : base_max(ms, x->rate_ms); /* the rate may be lower now than before */
    return left;
}

/* ---- The look ---- */

static int look_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct moves_look *l = container_of(read, struct moves_look, read);
    int rc = namespace_view_state(v, &l->state);
    return namespace_view_both(rc, namespace_classes(v, 0, MOVES_CLASSES_MAX, &l->classes));
}

static int look_plan(struct moves_look *l)
{
    struct metanode *m = l->m;
    struct cluster_move move[MOVES_AT_ONCE];
    struct cluster_moves_sum sum;
    size_t count = 0;
    int rc = look_alloc(l);
    if (rc < 0) {
        return rc;
    }
    look_places(l);
    for (size_t i = 0; i < l->classes.count; i++) {
        look_class(l, i);
    }
    look_chains(l);
    m->moves.paused = l->state.balance_paused;
    const struct cluster_moves_facts facts = {.place = l->place,
                                              .place_count = l->places,
                                              .class = l->class,
                                              .class_count = l->classes.count,
                                              .chain = l->chain,
                                              .chain_count = l->chains,
                                              .per_target = m->opt.moves,
                                              .balance = !l->state.balance_paused};
    rc = cluster_moves_plan(&facts, move, MOVES_AT_ONCE, &count, &sum);
    if (rc < 0) {
        return rc;
    }
    moves_progress(m, &sum);
    look_bytes(l);
    m->moves.left_bytes = look_left(l, &sum);
    m->moves.rate_ms = look_rate_ms(l);
    for (size_t i = 0; i < count; i++) {
        moves_make(l->from[move[i].chain], &move[i]);
    }
    moves_remove(m);
    return 0;
}

static void look_done(struct metanode_read *read, int rc)
{
    struct moves_look *l = container_of(read, struct moves_look, read);
    struct metanode *m = l->m;
    if (rc == 0 && m->phase == METANODE_SERVING && m->stop == NULL) {
        rc = look_plan(l);
    }
    if (rc < 0 && rc != -ERR_busy) {
        log_warn(m->env->log, "cannot see which copies have to be moved", LOG_RC(rc));
    }
    look_free(l);
    m->moves.looking = false;
    m->moves.looked = m->moves.looked && rc == 0;
    if (m->phase == METANODE_SERVING && m->stop == NULL) {
        loop_timer_in(m->env->loop, &m->moves.timer,
                      m->moves.again ? MOVES_SOON_NS : m->opt.heartbeat_ms * METANODE_NS_PER_MS);
    }
    m->moves.again = false;
}

/* Would it find the same as last time, which was nothing? */
static bool moves_are_idle(struct metanode *m)
{
    const struct cluster_moves_sum *s = &m->moves.sum;
    bool idle = m->moves.looked && moves_sum_left(s) + s->making + s->stuck + s->clashing == 0;
    LIST_FOR_EACH(node, &m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        idle = idle && t->plan != PROTO_PLAN_REMOVE && t->plan != PROTO_PLAN_REPLACE;
    }
    LIST_FOR_EACH(node, &m->chains.thin)
    { /* who is away does not serve */
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, thin);
        m->chains.visits++;
        for (size_t i = 0; i < c->row.count && idle; i++) {
            idle = c->away_since_ns[i] == 0; /* else its time may be over */
        }
    }
    return idle;
}

static void moves_look(struct loop_timer *timer)
{
    struct metanode *m = container_of(timer, struct metanode, moves.timer);
    m->moves.soon = false;
    if (m->moves.looking || m->phase != METANODE_SERVING || m->stop != NULL) {
        return;
    }
    struct moves_look *l = moves_are_idle(m) ? NULL : mem_zalloc(sizeof *l);
    if (l == NULL) {
        loop_timer_in(m->env->loop, timer, m->opt.heartbeat_ms * METANODE_NS_PER_MS);
        return;
    }
    m->moves.looking = m->moves.looked = true;
    *l = (struct moves_look){.m = m, .read = {.run = look_read, .done = look_done}};
    metanode_read(m, &l->read);
}

void metanode_moves_start(struct metanode *m)
{
    m->moves.timer.fire = moves_look;
    /* Not before it is known again who is up. */
    loop_timer_in(m->env->loop, &m->moves.timer, metanode_lease_ns(m));
}

void metanode_moves_touch(struct metanode *m)
{
    uint64_t known = m->serve_ns + metanode_lease_ns(m);
    m->moves.looked = false;
    if (m->moves.looking) {
        m->moves.again = true;
    } else if (m->phase == METANODE_SERVING && m->stop == NULL && !m->moves.soon &&
               metanode_now(m) >= known) {
        m->moves.soon = true;
        loop_timer_in(m->env->loop, &m->moves.timer, MOVES_SOON_NS);
    }
}

void metanode_moves_fini(struct metanode *m)
{
    loop_timer_cancel(m->env->loop, &m->moves.timer);
}
