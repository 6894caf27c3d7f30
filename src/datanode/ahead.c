/* datanode/ahead.c -- see ahead.h. */
#include "datanode/ahead.h"

#include "chunk/hold.h"
#include "datanode/worker_priv.h"

struct request_ahead {
    struct chunk_ahead ahead;
    struct datanode_worker *worker;
    struct peer_request *request;
    void (*again)(struct peer_user *user, struct peer_request *r);
};

static void ahead_done(struct chunk_ahead *a, int rc)
{
    struct request_ahead *op = container_of(a, struct request_ahead, ahead);
    struct datanode_worker *w = op->worker;
    w->read_count--;
    if (datanode_request_dead(op->request)) { /* there is no link to look at any more */
        datanode_refuse(op->request, -ERR_cancelled, NULL);
    } else if (rc < 0) {
        datanode_refuse(op->request, err_is(rc, EIO) ? rc : -ERR_busy, NULL);
    } else {
        op->again(&w->user, op->request); /* what was read stays until it has been seen */
    }
    chunk_store_ahead_end(w->store, a);
    mem_free(op);
}

void datanode_request_ahead(struct datanode_worker *w, struct peer_request *r,
                            struct chunk_key from,
                            void (*again)(struct peer_user *user, struct peer_request *r))
{
    bool may = w->read_count < DATANODE_READS_MAX;
    struct request_ahead *op = may ? mem_zalloc(sizeof *op) : NULL;
    if (op != NULL) {
        *op = (struct request_ahead){
            .ahead = {.done = ahead_done, .from = from}, .worker = w, .request = r, .again = again};
    }
    if (op == NULL || chunk_store_ahead(w->store, &op->ahead) < 0) {
        mem_free(op);
        datanode_refuse(r, -ERR_busy, NULL);
        return;
    }
    w->read_count++;
}
