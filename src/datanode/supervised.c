/* datanode/supervised.c -- see supervised.h. One link, never made anew. */
#include "datanode/supervised.h"

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "peer/client.h"

struct datanode_supervised {
    struct peer_user peer_user;
    struct datanode_supervised_options opt;
    struct peer *peer;
    struct loop_task lost;
};

static void link_up(struct peer_user *u, struct peer_link *l)
{
    struct datanode_supervised *s = container_of(u, struct datanode_supervised, peer_user);
    struct proto_started_push m = {.uuid = s->opt.uuid,
                                   .incarnation = s->opt.incarnation,
                                   .address = proto_bytes_text(s->opt.address)};
    int rc = peer_link_push(l, PROTO_OP_started, &m);
    if (rc < 0) {
        log_warn(s->opt.env->log, "cannot tell the master what is served", LOG_RC(rc));
    }
}

/* Told from the loop: the owner may free us then. */
static void tell_lost(struct loop_task *t)
{
    struct datanode_supervised *s = container_of(t, struct datanode_supervised, lost);
    s->opt.user->ops->lost(s->opt.user);
}

static void link_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)l;
    (void)rc;
    (void)reason;
    struct datanode_supervised *s = container_of(u, struct datanode_supervised, peer_user);
    if (s->peer != NULL) { /* else it is our own end */
        loop_defer(s->opt.env->loop, &s->lost);
    }
}

static const struct peer_user_ops link_ops = {.up = link_up, .down = link_down};

int datanode_supervised_start(const struct datanode_supervised_options *opt,
                              struct datanode_supervised **ret)
{
    CLEANUP(datanode_supervised_freep) struct datanode_supervised *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        net_fd_close(opt->env->net, opt->fd);
        return -ENOMEM;
    }
    s->opt = *opt;
    s->peer_user.ops = &link_ops;
    s->lost.run = tell_lost;
    struct stream *stream = NULL;
    int rc = net_adopt(opt->env->net, opt->fd, &stream);
    if (rc < 0) {
        return rc;
    }
    struct peer_options p = {.env = opt->env,
                             .user = &s->peer_user,
                             .secrets = opt->secrets,
                             .cluster_id = opt->cluster_id,
                             .role = PROTO_ROLE_TARGET,
                             .name = opt->name,
                             .stream = stream};
    rc = peer_new(&p, &s->peer);
    if (rc < 0) {
        return rc;
    }
    peer_start(s->peer);
    *ret = s;
    s = NULL;
    return 0;
}

struct datanode_supervised *datanode_supervised_free(struct datanode_supervised *s)
{
    if (s != NULL) {
        struct peer *peer = s->peer;
        s->peer = NULL;
        peer_free(peer);
        loop_undefer(s->opt.env->loop, &s->lost);
        mem_free(s);
    }
    return NULL;
}
