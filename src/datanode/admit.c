/* datanode/admit.c -- see admit.h. */
#include "datanode/admit.h"

#include "datanode/worker_priv.h"

struct datanode_share {
    size_t refs; /* the link, and one of each ticket */
    uint64_t bytes;
};

static void share_unref(struct datanode_share *s)
{
    CHECK(s->refs > 0);
    if (--s->refs == 0) {
        CHECK(s->bytes == 0);
        mem_free(s);
    }
}

static struct datanode_share *share_of(struct peer_link *l)
{
    struct datanode_share *s = l->context;
    if (s == NULL) {
        s = mem_zalloc(sizeof *s);
        if (s != NULL) {
            s->refs = 1;
            l->context = s;
        }
    }
    return s;
}

/* The first request of all, or of a link, is taken however large it is. */
static bool admits(uint64_t has, uint64_t more, uint64_t limit)
{
    return has == 0 || (has <= limit && more <= limit - has);
}

int datanode_admit(struct datanode_worker *w, struct peer_link *l, uint64_t bytes,
                   struct datanode_ticket *ret)
{
    struct datanode_share *s = share_of(l);
    size_t count = base_max(w->opt.max_reads / DATANODE_LINK_PART, 1);
    uint64_t part = w->opt.max_read_bytes / DATANODE_LINK_PART;
    bool room = s != NULL && w->read_count < w->opt.max_reads && s->refs <= count &&
                admits(w->read_bytes, bytes, w->opt.max_read_bytes) &&
                admits(s->bytes, bytes, part);
    if (!room) {
        stats_count(&w->counters.read_busy, 1);
        return -ERR_busy;
    }
    s->refs++;
    s->bytes += bytes;
    w->read_count++;
    w->read_bytes += bytes;
    *ret = (struct datanode_ticket){.share = s, .bytes = bytes};
    return 0;
}

void datanode_admit_end(struct datanode_worker *w, struct datanode_ticket *t)
{
    CHECK(w->read_count > 0 && w->read_bytes >= t->bytes);
    w->read_count--;
    w->read_bytes -= t->bytes;
    t->share->bytes -= t->bytes;
    share_unref(t->share);
    t->share = NULL;
}

void datanode_admit_down(struct peer_link *l)
{
    if (l->context != NULL) {
        share_unref(l->context);
        l->context = NULL;
    }
}
