/*
 * net/sim_priv.h -- the simulated network's insides, shared by sim.c (world), sim_stream.c (data)
 * and sim_connect.c (connecting and listening).
 *
 * Everything here belongs to the world: it is allocated outside of the processes' memory domains,
 * and a dying process's part is taken down by sim.c. What belongs to a process (struct net_connect,
 * the users) is touched only in events that are delivered on its loop.
 */
#pragma once

#include "base/list.h"
#include "loop/sim.h"
#include "net/net_priv.h"
#include "net/sim.h"

#define NET_SIM_FIRST_FD 1000
#define NET_SIM_FIRST_PORT 20000u

/* An event of the loop's simulation, with memory of whether it is pending. */
struct net_sim_event {
    struct loop_sim_event ev;
    void (*fire)(struct net_sim_event *e);
    bool armed;
};
/* `on` NULL: the world; else a callback of that process. Moves it when armed. */
void net_sim_arm(struct net_sim *w, struct net_sim_event *e, struct loop *on, uint64_t delay_ns);
void net_sim_disarm(struct net_sim *w, struct net_sim_event *e);

struct net_sim_cut {
    unsigned from, to;
    struct list node;
};

struct net_sim {
    struct loop_sim *sim;
    struct net_sim_options opt;
    struct list nodes, ports, links, cuts; /* net_sim_node, net_sim_port, net_sim_link, ... */
    int next_fd;
    uint32_t next_port;
    uint64_t corrupt_in; /* deliveries until one is corrupted; 0: none */
    uint64_t break_in;   /* arrivals until one breaks its connection; 0: none */
    uint64_t delivered_bytes;
};

/* The network as one process sees it. */
struct net_sim_node {
    struct net base;
    struct net_sim *world;
    unsigned host;
    struct loop_sim_death death;
    struct list connects;
    struct list node;
};

struct net_sim_segment {
    struct list node;
    uint64_t at_ns; /* due at the receiver */
    enum { NET_SIM_DATA, NET_SIM_FIN, NET_SIM_RST } kind;
    size_t len, taken;
    uint8_t bytes[];
};

/* One side of a connection. `pipe` is what travels towards it. */
struct net_sim_end {
    struct stream base; /* base.net NULL: nobody's (in a backlog, or passed to a child) */
    struct net_sim_link *link;
    struct net_sim_node *node;
    struct disk_sink sink;
    unsigned host, index;
    bool closed;         /* this side is done with it */
    bool refused;        /* bytes came after that, and a reset went back */
    bool eof;            /* the other side's end has arrived */
    int error;           /* negative: broken */
    bool want_room;      /* a write met -EAGAIN */
    unsigned events;     /* to be told */
    int fd;              /* while nobody's: number for a child; 0: none */
    struct list arrived; /* segments to read */
    struct list flying;  /* segments under way to here, in order */
    size_t pipe_bytes;   /* both: against the window */
    uint64_t last_at_ns; /* nothing arrives before */
    struct net_sim_event arrive, tell, give_up, forget;
    struct list backlog; /* in a port's */
};
struct net_sim_link {
    struct net_sim *world;
    struct net_sim_end end[2];
    struct net_address to; /* as the connecting side named it */
    bool pair;             /* within a machine: it ends only with a process */
    struct list node;
};

struct net_sim_port {
    unsigned host;
    struct net_address at;
    char key[NET_ADDRESS_SIZE]; /* "9400", "unix:/path" */
    bool local_only;
    int fd;
    struct list backlog; /* ends */
    unsigned backlog_count;
    struct list listeners;
    struct list node;
};

uint64_t net_sim_delay(struct net_sim *w);
bool net_sim_is_cut(const struct net_sim *w, unsigned from, unsigned to);
void *net_sim_alloc(size_t size); /* zeroed, the world's */

/* sim_stream.c */
struct net_sim_link *net_sim_link_new(struct net_sim *w, unsigned from, unsigned to);
struct stream *net_sim_end_take(struct net_sim_end *e, struct net_sim_node *n);
void net_sim_end_close(struct net_sim_end *e, bool killed); /* may free the link */
void net_sim_end_break(struct net_sim_end *e, int rc);
void net_sim_end_resume(struct net_sim_end *e); /* after a cut has healed */
void net_sim_link_free(struct net_sim_link *k);

/* sim_connect.c */
void net_sim_connect(struct net *base, struct net_connect *c);
void net_sim_connect_cancel(struct net *n, struct net_connect *c);
int net_sim_listen(struct net *base, const struct net_address *at, struct net_listener_user *u,
                   struct net_listener **ret);
int net_sim_listen_fd(struct net *base, int fd, struct net_listener_user *u,
                      struct net_listener **ret);
int net_sim_listener_fd(const struct net_listener *li);
void net_sim_listener_address(const struct net_listener *li, struct net_address *ret);
struct net_listener *net_sim_listener_close(struct net_listener *li);
void net_sim_node_drop_listeners(struct net_sim_node *n);
void net_sim_node_drop_connects(struct net_sim_node *n);
