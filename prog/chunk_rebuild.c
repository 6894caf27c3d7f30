/* prog/chunk_rebuild.c -- `opendfs chunk rebuild`: the data directory of a target whose index or
 * journal is damaged is made anew, offline. */
#include "servers.h"

#include "chunk/look.h"
#include "chunk/rebuild.h"
#include "chunk/store.h"
#include "host.h"
#include "tree/line.h"

#include <stdio.h>

struct rebuild_process {
    struct host host;
    const char *directory;
    struct chunk_looked looked;
    struct chunk_user user;
    struct chunk_store *store;
    struct chunk_start start;
    struct chunk_stop stop;
    struct chunk_rebuild rebuild;
    struct tree_lines to;
    struct tree_line line;
    struct err error;
    int rc;
};

/* ---- Lines ---- */

static void line_over(struct rebuild_process *p, int rc)
{
    p->rc = p->rc < 0 ? p->rc : rc;
}

static void print_lost(struct chunk_rebuild *r, const struct chunk_loss *loss)
{
    struct rebuild_process *p = container_of(r, struct rebuild_process, rebuild);
    struct tree_line *l = &p->line;
    tree_line_begin(l, &p->to, "lost");
    tree_line_number(l, "data_id", loss->key.data_id);
    tree_line_number(l, "index", loss->key.index);
    if (loss->chain != 0) {
        tree_line_number(l, "chain", loss->chain);
    }
    tree_line_text(l, "content", loss->pending ? "pending" : "committed");
    tree_line_text(l, "state", loss->gone ? "gone" : loss->pending ? "dropped" : "damaged");
    tree_line_text(l, "reason", loss->why);
    line_over(p, tree_line_end(l, &p->to));
}

static void print_index(void *arg, const struct tree_finding *f)
{
    struct chunk_rebuild *r = arg;
    struct rebuild_process *p = container_of(r, struct rebuild_process, rebuild);
    line_over(p, tree_finding_print(f, &p->line, &p->to));
}

static bool rebuild_lossless(const struct chunk_rebuild *r)
{
    return r->lost_count == 0 && r->index_losses == 0 && !r->index_gone && !r->journal_broken &&
           !r->without_journal;
}

static void print_summary(struct rebuild_process *p)
{
    const struct chunk_rebuild *r = &p->rebuild;
    struct tree_line *l = &p->line;
    tree_line_begin(l, &p->to, rebuild_lossless(r) ? "rebuilt" : "rebuilt_in_part");
    tree_line_number(l, "chunks", r->chunks);
    tree_line_number(l, "bytes", r->bytes);
    tree_line_number(l, "lost_contents", r->lost_count);
    tree_line_number(l, "damages_of_the_index", r->index_losses);
    tree_line_text(l, "index", r->index_sound ? "sound" : r->index_gone ? "gone" : "saved in part");
    tree_line_text(l, "journal",
                   r->journal_broken    ? "broken off"
                   : r->without_journal ? "passed over"
                                        : "whole");
    line_over(p, tree_line_end(l, &p->to));
}

/* ---- The store ---- */

static void store_failed(struct chunk_user *u, int rc, const char *reason)
{
    struct rebuild_process *p = container_of(u, struct rebuild_process, user);
    p->rc = err_set(&p->error, rc, "%s", reason);
}

static void store_damaged(struct chunk_user *u, struct chunk_key key)
{
    (void)u;
    (void)key; /* told as lost, if it is */
}

static const struct chunk_user_ops user_ops = {.failed = store_failed, .damaged = store_damaged};

static void store_started(struct chunk_start *start, int rc)
{
    struct rebuild_process *p = container_of(start, struct rebuild_process, start);
    if (rc < 0) {
        p->rc = err_set(&p->error, rc, "it cannot be made anew");
    } else {
        print_summary(p);
    }
    chunk_store_stop(p->store, &p->stop);
}

static void store_stopped(struct chunk_stop *stop, int rc)
{
    struct rebuild_process *p = container_of(stop, struct rebuild_process, stop);
    (void)rc; /* what was open is of no use any more */
    loop_stop(p->host.loop, 0);
}

static int rebuild_run(struct rebuild_process *p)
{
    int rc = host_init_bare(&p->host, &p->error);
    rc = rc < 0 ? rc : chunk_store_look(p->host.disk, p->directory, &p->looked, &p->error);
    if (rc < 0) {
        return rc;
    }
    if (p->looked.engine != CHUNK_ENGINE_EXTENT) {
        return err_set(&p->error, -EINVAL,
                       "a directory of the engine `file`: each file has all that is known of its "
                       "chunk, there is nothing to be made anew");
    }
    const struct chunk_options opt = {.env = &p->host.env,
                                      .engine = p->looked.engine,
                                      .directory = p->directory,
                                      .cluster = p->looked.cluster,
                                      .user = &p->user,
                                      .rebuild = &p->rebuild};
    p->user.ops = &user_ops;
    rc = chunk_store_open(&opt, &p->store, &p->error);
    if (rc < 0) {
        return rc;
    }
    p->start.done = store_started;
    p->stop.done = store_stopped;
    chunk_store_start(p->store, &p->start);
    loop_run(p->host.loop);
    p->store = chunk_store_free(p->store);
    return p->rc;
}

int server_chunk_rebuild(struct cli *c)
{
    struct rebuild_process p = {.directory = cli_argument(c, 0),
                                .to = server_lines(c),
                                .rebuild = {.without_journal = cli_flag(c, "without-journal"),
                                            .lost = print_lost,
                                            .index = print_index}};
    int rc = rebuild_run(&p);
    tree_line_fini(&p.line);
    host_fini(&p.host);
    if (rc < 0) {
        return cli_fail(c, "%s: %s", p.directory, err_message(&p.error, rc));
    }
    return rebuild_lossless(&p.rebuild) ? 0 : CLI_EXIT_FAILED;
}
