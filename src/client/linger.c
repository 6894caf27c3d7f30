#include "client/linger_priv.h"

#include "client/inode_priv.h"

/*
 * A kernel looks a name up and opens then the inode that it has found. In between a rename may put
 * another file in place of it, and the one that was found is gone: the open fails, though the name
 * stood for a file all the time. So what was replaced from here stays open here, without a name,
 * for a moment longer than that takes. Bounded: a session may hold so many files, and no more.
 */

#define LINGER_MS 1000u
#define LINGERS_MAX 128u

struct linger {
    struct list node;
    struct client_inode *inode;
    uint64_t until_ns;
};

static void linger_end(struct opendfs *fs, struct linger *l)
{
    struct client_inode *i = l->inode;
    list_remove(&l->node);
    fs->lingers.count--;
    mem_free(l);
    client_inode_put(i);
}

static void lingers_due(struct loop_timer *t)
{
    struct opendfs *fs = container_of(t, struct opendfs, lingers.timer);
    uint64_t now = loop_now_ns(fs->loop);
    LIST_FOR_EACH_SAFE(node, &fs->lingers.all)
    {
        struct linger *l = LIST_ENTRY(node, struct linger, node);
        if (l->until_ns > now) {
            loop_timer_at(fs->loop, t, l->until_ns);
            return;
        }
        linger_end(fs, l);
    }
}

void client_keep_replaced(struct opendfs *fs)
{
    LOOP_OWNED(fs->loop);
    fs->lingers.wanted = true;
}

bool client_lingers_next(const struct opendfs *fs)
{
    return fs->lingers.wanted && fs->lingers.count < LINGERS_MAX && !fs->stopping;
}

void client_linger(struct opendfs *fs, uint64_t ino)
{
    struct linger *l = mem_zalloc(sizeof *l);
    struct client_inode *i;
    if (l == NULL || client_inode_get(fs, ino, &i) < 0) {
        mem_free(l); /* it goes with the session */
        return;
    }
    i->kept = true;
    l->inode = i;
    l->until_ns = loop_now_ns(fs->loop) + LINGER_MS * CLIENT_NS_PER_MS;
    list_push_back(&fs->lingers.all, &l->node);
    fs->lingers.count++;
    if (!loop_timer_active(&fs->lingers.timer)) {
        loop_timer_at(fs->loop, &fs->lingers.timer, l->until_ns);
    }
}

void client_lingers_init(struct opendfs *fs)
{
    list_init(&fs->lingers.all);
    fs->lingers.timer.fire = lingers_due;
}

void client_lingers_fini(struct opendfs *fs)
{
    loop_timer_cancel(fs->loop, &fs->lingers.timer);
    LIST_FOR_EACH_SAFE(node, &fs->lingers.all)
    {
        linger_end(fs, LIST_ENTRY(node, struct linger, node));
    }
}
