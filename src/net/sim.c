/* net/sim.c -- the simulated network: the world, its hosts, cuts, and what a death leaves behind.
 */
#include "net/sim.h"

#include "net/sim_priv.h"

#include "base/mem.h"
#include "base/rand.h"

#include <stdio.h>

#define DEFAULT_MIN_NS 20000u
#define DEFAULT_MAX_NS 500000u
#define DEFAULT_WINDOW (256u << 10)
#define STALL_NS 1000000000u
#define ORPHAN_NS 1000000000u

void *net_sim_alloc(size_t size)
{
    struct mem_domain *d = mem_domain_enter(NULL);
    void *p = mem_zalloc(size);
    (void)mem_domain_enter(d);
    return p;
}

static void event_run(struct loop_sim_event *ev)
{
    struct net_sim_event *e = container_of(ev, struct net_sim_event, ev);
    e->armed = false;
    e->fire(e);
}

static void event_dropped(struct loop_sim_event *ev)
{
    container_of(ev, struct net_sim_event, ev)->armed = false;
}

void net_sim_arm(struct net_sim *w, struct net_sim_event *e, struct loop *on, uint64_t delay_ns)
{
    net_sim_disarm(w, e);
    e->ev = (struct loop_sim_event){.run = event_run, .dropped = event_dropped, .on = on};
    e->armed = true;
    loop_sim_at(w->sim, &e->ev, loop_sim_now_ns(w->sim) + delay_ns);
}

void net_sim_disarm(struct net_sim *w, struct net_sim_event *e)
{
    if (e->armed) {
        loop_sim_cancel(w->sim, &e->ev);
        e->armed = false;
    }
}

uint64_t net_sim_delay(struct net_sim *w)
{
    struct rand *r = loop_sim_rand(w->sim);
    uint64_t delay = rand_range(r, w->opt.min_ns, w->opt.max_ns);
    if (w->opt.stall_per_million > 0 && rand_chance(r, w->opt.stall_per_million, 1000000)) {
        delay += rand_below(r, STALL_NS);
    }
    return delay;
}

struct net_sim *net_sim_new(const struct net_sim_options *opt)
{
    CHECK(opt->sim != NULL && opt->min_ns <= base_max(opt->max_ns, DEFAULT_MAX_NS));
    struct net_sim *w = net_sim_alloc(sizeof *w);
    if (w == NULL) {
        return NULL;
    }
    w->sim = opt->sim;
    w->opt = *opt;
    if (opt->min_ns == 0 && opt->max_ns == 0) {
        w->opt.min_ns = DEFAULT_MIN_NS;
        w->opt.max_ns = DEFAULT_MAX_NS;
    }
    w->opt.max_ns = base_max(w->opt.max_ns, w->opt.min_ns);
    w->opt.window_bytes = opt->window_bytes == 0 ? DEFAULT_WINDOW : opt->window_bytes;
    w->next_fd = NET_SIM_FIRST_FD;
    w->next_port = NET_SIM_FIRST_PORT;
    list_init(&w->nodes);
    list_init(&w->ports);
    list_init(&w->links);
    list_init(&w->cuts);
    return w;
}

static void node_gone(struct net_sim_node *n)
{
    struct net_sim *w = n->world;
    net_sim_node_drop_connects(n);
    net_sim_node_drop_listeners(n);
    LIST_FOR_EACH_SAFE(at, &w->links)
    {
        struct net_sim_link *k = LIST_ENTRY(at, struct net_sim_link, node);
        bool mine[2] = {k->end[0].node == n, k->end[1].node == n};
        if (mine[0] && mine[1]) {
            net_sim_link_free(k); /* a process's talk with itself */
        } else if (mine[0] || mine[1]) {
            net_sim_end_close(&k->end[mine[0] ? 0 : 1], true);
        }
    }
    list_remove(&n->death.node);
    list_remove(&n->node);
    mem_free(n);
}

struct net_sim *net_sim_free(struct net_sim *w)
{
    if (w == NULL) {
        return NULL;
    }
    LIST_FOR_EACH_SAFE(at, &w->nodes)
    {
        node_gone(LIST_ENTRY(at, struct net_sim_node, node));
    }
    LIST_FOR_EACH_SAFE(at, &w->links)
    {
        net_sim_link_free(LIST_ENTRY(at, struct net_sim_link, node));
    }
    LIST_FOR_EACH_SAFE(at, &w->cuts)
    {
        mem_free(LIST_ENTRY(at, struct net_sim_cut, node));
    }
    CHECK(list_empty(&w->ports));
    mem_free(w);
    return NULL;
}

static void node_died(struct loop_sim_death *d, struct loop *l)
{
    (void)l;
    node_gone(container_of(d, struct net_sim_node, death));
}

/* --- Pairs for children -------------------------------------------------------------------- */

static int sim_pair(struct net *base, struct stream **ret, int *ret_fd)
{
    struct net_sim_node *n = container_of(base, struct net_sim_node, base);
    struct net_sim_link *k = net_sim_link_new(n->world, n->host, n->host);
    if (k == NULL) {
        return -ENOMEM;
    }
    (void)snprintf(k->to.text, sizeof k->to.text, "unix:(pair)");
    k->pair = true;
    k->end[1].fd = n->world->next_fd++;
    *ret = net_sim_end_take(&k->end[0], n);
    *ret_fd = k->end[1].fd;
    return 0;
}

static struct net_sim_end *end_by_fd(struct net_sim *w, int fd)
{
    LIST_FOR_EACH(at, &w->links)
    {
        struct net_sim_end *e = &LIST_ENTRY(at, struct net_sim_link, node)->end[1];
        if (e->fd == fd && e->node == NULL && !e->closed) {
            return e;
        }
    }
    return NULL;
}

static int sim_adopt(struct net *base, int fd, struct stream **ret)
{
    struct net_sim_node *n = container_of(base, struct net_sim_node, base);
    struct net_sim_end *e = end_by_fd(n->world, fd);
    if (e == NULL) {
        return -EBADF;
    }
    e->fd = 0;
    *ret = net_sim_end_take(e, n);
    return 0;
}

static void orphan_forgotten(struct net_sim_event *ev)
{
    net_sim_end_close(container_of(ev, struct net_sim_end, forget), true);
}

/* The parent's copy goes; a child that was just spawned has its own and may still ask for it. */
static void sim_fd_close(struct net *base, int fd)
{
    struct net_sim_node *n = container_of(base, struct net_sim_node, base);
    struct net_sim_end *e = end_by_fd(n->world, fd);
    if (e != NULL) {
        e->forget.fire = orphan_forgotten;
        net_sim_arm(n->world, &e->forget, NULL, ORPHAN_NS);
    }
}

static struct net *sim_free(struct net *base)
{
    struct net_sim_node *n = container_of(base, struct net_sim_node, base);
    node_gone(n);
    return NULL;
}

static const struct net_ops net_sim_ops = {
    .connect = net_sim_connect,
    .connect_cancel = net_sim_connect_cancel,
    .listen = net_sim_listen,
    .listen_fd = net_sim_listen_fd,
    .listener_fd = net_sim_listener_fd,
    .listener_address = net_sim_listener_address,
    .listener_close = net_sim_listener_close,
    .pair = sim_pair,
    .adopt = sim_adopt,
    .fd_close = sim_fd_close,
    .free = sim_free,
};

int net_sim_open(struct net_sim *w, unsigned host, struct loop *l, struct net **ret)
{
    struct net_sim_node *n = net_sim_alloc(sizeof *n);
    if (n == NULL) {
        return -ENOMEM;
    }
    n->base = (struct net){.ops = &net_sim_ops, .loop = l};
    n->world = w;
    n->host = host;
    n->death.died = node_died;
    list_init(&n->connects);
    list_push_back(&w->nodes, &n->node);
    loop_sim_on_death(l, &n->death);
    *ret = &n->base;
    return 0;
}

/* --- Faults --------------------------------------------------------------------------------- */

void net_sim_faults(struct net_sim *w, uint32_t reset_per_million, uint32_t stall_per_million)
{
    w->opt.reset_per_million = reset_per_million;
    w->opt.stall_per_million = stall_per_million;
}

static struct net_sim_cut *find_cut(const struct net_sim *w, unsigned from, unsigned to)
{
    LIST_FOR_EACH(at, &w->cuts)
    {
        struct net_sim_cut *c = LIST_ENTRY(at, struct net_sim_cut, node);
        if (c->from == from && c->to == to) {
            return c;
        }
    }
    return NULL;
}

bool net_sim_is_cut(const struct net_sim *w, unsigned from, unsigned to)
{
    return find_cut(w, from, to) != NULL;
}

static void resume_all(struct net_sim *w)
{
    LIST_FOR_EACH(at, &w->links)
    {
        struct net_sim_link *k = LIST_ENTRY(at, struct net_sim_link, node);
        net_sim_end_resume(&k->end[0]);
        net_sim_end_resume(&k->end[1]);
    }
}

void net_sim_cut(struct net_sim *w, unsigned from, unsigned to, bool cut)
{
    struct net_sim_cut *c = find_cut(w, from, to);
    if (cut && c == NULL) {
        c = net_sim_alloc(sizeof *c);
        CHECK(c != NULL); /* a test that asks for a partition must get one */
        c->from = from;
        c->to = to;
        list_push_back(&w->cuts, &c->node);
    } else if (!cut && c != NULL) {
        list_remove(&c->node);
        mem_free(c);
        resume_all(w);
    }
}

void net_sim_heal(struct net_sim *w)
{
    LIST_FOR_EACH_SAFE(at, &w->cuts)
    {
        struct net_sim_cut *c = LIST_ENTRY(at, struct net_sim_cut, node);
        list_remove(&c->node);
        mem_free(c);
    }
    resume_all(w);
}

void net_sim_reset(struct net_sim *w, unsigned a, unsigned b)
{
    LIST_FOR_EACH(at, &w->links)
    {
        struct net_sim_link *k = LIST_ENTRY(at, struct net_sim_link, node);
        unsigned x = k->end[0].host, y = k->end[1].host;
        if ((x == a && y == b) || (x == b && y == a)) {
            net_sim_end_break(&k->end[0], -ECONNRESET);
            net_sim_end_break(&k->end[1], -ECONNRESET);
        }
    }
}

bool net_sim_break(struct net_sim *w, uint64_t nth)
{
    bool pending = w->break_in > 0;
    w->break_in = nth;
    return pending;
}

void net_sim_corrupt(struct net_sim *w, uint64_t nth)
{
    w->corrupt_in = nth;
}

uint64_t net_sim_delivered_bytes(const struct net_sim *w)
{
    return w->delivered_bytes;
}
