/* prog/chunk.c -- `opendfs chunk stats`, `dump`, `verify`: the data directory of a target, offline;
 * `format`: a device for one. */
#include "servers.h"

#include "base/text.h"
#include "chunk/device.h"
#include "chunk/hold.h"
#include "chunk/look.h"
#include "chunk/read.h"
#include "chunk/store.h"
#include "host.h"
#include "tree/line.h"

#include <stdio.h>

enum chunk_tool { CHUNK_TOOL_STATS, CHUNK_TOOL_DUMP, CHUNK_TOOL_VERIFY };

struct chunk_process {
    struct host host;
    enum chunk_tool tool;
    const char *directory;
    struct chunk_looked looked;
    struct chunk_user user;
    struct chunk_store *store;
    struct chunk_start start;
    struct chunk_stop stop;
    struct chunk_verify verify;
    struct chunk_info walked; /* which is verified */
    struct chunk_ahead ahead;
    struct chunk_key from; /* the next chunk */
    bool only;             /* those of one data id */
    uint64_t data_id;
    uint64_t seen, bad, bytes;
    bool again; /* the chunk that was walked last is looked at once more */
    bool wrong; /* the index contradicts itself */
    struct tree_lines to;
    struct tree_line line;
    struct err error;
    int rc;
};

static const char *engine_name(enum chunk_engine engine)
{
    return engine == CHUNK_ENGINE_EXTENT ? "extent" : "file";
}

/* ---- Lines ---- */

static void line_end(struct chunk_process *p)
{
    int rc = tree_line_end(&p->line, &p->to);
    p->rc = p->rc < 0 ? p->rc : rc;
}

static void line_identity(struct tree_line *l, const char *epoch, const char *version,
                          struct chunk_identity x)
{
    tree_line_number(l, epoch, x.aepoch);
    tree_line_number(l, version, x.ver);
}

static void print_chunk(struct chunk_process *p, const struct chunk_info *i)
{
    struct tree_line *l = &p->line;
    tree_line_begin(l, &p->to, "chunk");
    tree_line_number(l, "data_id", i->key.data_id);
    tree_line_number(l, "index", i->key.index);
    tree_line_number(l, "chain", i->chain);
    if (!chunk_identity_none(i->committed)) {
        line_identity(l, "epoch", "version", i->committed);
        tree_line_number(l, "length", i->length);
        tree_line_number(l, "digest", i->digest);
    }
    if (i->has_pending) {
        line_identity(l, "pending_epoch", "pending_version", i->pending);
        tree_line_number(l, "pending_length", i->pending_length);
    }
    tree_line_number(l, "allocated_bytes", i->allocated_bytes);
    if ((i->flags & CHUNK_DAMAGED) != 0) {
        tree_line_text(l, "state", "damaged");
    }
    line_end(p);
}

static void print_bad(struct chunk_process *p, const struct chunk_info *i, int rc)
{
    struct tree_line *l = &p->line;
    tree_line_begin(l, &p->to, "damage");
    tree_line_number(l, "data_id", i->key.data_id);
    tree_line_number(l, "index", i->key.index);
    tree_line_number(l, "chain", i->chain);
    tree_line_text(l, "content", p->verify.pending_bad ? "pending" : "committed");
    tree_line_text(l, "reason", err_text(rc));
    line_end(p);
}

static void print_summary(struct chunk_process *p)
{
    struct tree_line *l = &p->line;
    struct chunk_store_info i;
    chunk_store_info(p->store, &i);
    tree_line_begin(l, &p->to,
                    p->tool != CHUNK_TOOL_VERIFY ? "store"
                    : p->bad > 0                 ? "damaged"
                    : i.wrong > 0                ? "contradictory"
                                                 : "sound");
    p->wrong = p->tool == CHUNK_TOOL_VERIFY && i.wrong > 0;
    tree_line_text(l, "engine", engine_name(p->looked.engine));
    tree_line_number(l, "incarnation", i.incarnation);
    tree_line_number(l, "chunks", i.chunk_count);
    tree_line_number(l, "damaged_chunks", i.damaged_count);
    tree_line_number(l, "pending_contents", i.pending_count);
    tree_line_number(l, "used_bytes", i.used_bytes);
    tree_line_number(l, "free_bytes", i.free_bytes);
    tree_line_number(l, "contradictions", i.wrong);
    tree_line_text(l, "unsynced_data_may_be_missing", i.lossy ? "yes" : "no");
    if (p->tool == CHUNK_TOOL_VERIFY) {
        tree_line_number(l, "verified_chunks", p->seen);
        tree_line_number(l, "verified_bytes", p->bytes);
        tree_line_number(l, "bad_chunks", p->bad);
    }
    line_end(p);
}

/* ---- The walk ---- */

static void walk(struct chunk_process *p);

static void walk_over(struct chunk_process *p)
{
    print_summary(p);
    chunk_store_stop(p->store, &p->stop);
}

static void walk_read(struct chunk_ahead *a, int rc)
{
    struct chunk_process *p = container_of(a, struct chunk_process, ahead);
    p->rc = rc < 0 ? err_set(&p->error, rc, "the index cannot be read") : p->rc;
    walk(p);
}

/* 1: there is one; 0: none; -ERR_need: walk() goes on when it has been read. */
static int walk_next(struct chunk_process *p, struct chunk_info *ret)
{
    int rc = chunk_store_next(p->store, p->from, ret);
    if (rc == -ERR_need) {
        p->ahead.done = walk_read;
        p->ahead.from = p->from;
        int begun = chunk_store_ahead(p->store, &p->ahead);
        rc = begun < 0 ? begun : rc;
    }
    if (rc < 0 && rc != -ENOENT && rc != -ERR_need) {
        p->rc = err_set(&p->error, rc, "the index cannot be read");
    }
    return rc == -ERR_need ? rc : rc == 0 && (!p->only || ret->key.data_id == p->data_id) ? 1 : 0;
}

/* Only the name of a chunk: what was written to it was never committed, and is gone. */
static bool is_empty(const struct chunk_info *i)
{
    return chunk_identity_none(i->committed) && !i->has_pending && (i->flags & CHUNK_DAMAGED) == 0;
}

static void verified(struct chunk_verify *v, int rc)
{
    struct chunk_process *p = container_of(v, struct chunk_process, verify);
    if (rc == -ENOENT && !p->again) { /* a start goes on removing: is it still listed? */
        p->again = true;
        p->from = p->walked.key;
        walk(p);
        return;
    }
    p->seen++;
    p->bytes += p->walked.length;
    if ((rc < 0 && !(rc == -ENOENT && is_empty(&p->walked))) || v->pending_bad) {
        p->bad++;
        print_bad(p, &p->walked, rc);
    }
    walk(p);
}

static void walk(struct chunk_process *p)
{
    struct chunk_info i;
    bool more = p->rc == 0;
    int found = 0;
    while (more && (found = walk_next(p, &i)) == 1) {
        p->from = i.key;
        more = chunk_key_step(&p->from) && p->rc == 0;
        if (p->tool == CHUNK_TOOL_VERIFY) {
            p->again = p->again && chunk_key_compare(i.key, p->walked.key) == 0;
            p->walked = i;
            p->verify = (struct chunk_verify){.done = verified, .key = i.key, .medium = true};
            chunk_store_verify(p->store, &p->verify);
            return;
        }
        print_chunk(p, &i);
    }
    if (more && found == -ERR_need) {
        return;
    }
    chunk_store_ahead_end(p->store, &p->ahead);
    walk_over(p);
}

/* ---- The store ---- */

static void store_failed(struct chunk_user *u, int rc, const char *reason)
{
    struct chunk_process *p = container_of(u, struct chunk_process, user);
    p->rc = err_set(&p->error, rc, "%s", reason);
}

static void store_damaged(struct chunk_user *u, struct chunk_key key)
{
    (void)u;
    (void)key; /* the verification says so, too */
}

static const struct chunk_user_ops user_ops = {.failed = store_failed, .damaged = store_damaged};

static void store_started(struct chunk_start *start, int rc)
{
    struct chunk_process *p = container_of(start, struct chunk_process, start);
    if (rc < 0) {
        p->rc = err_set(&p->error, rc, "the store cannot be started");
        chunk_store_stop(p->store, &p->stop);
    } else if (p->tool == CHUNK_TOOL_STATS) {
        walk_over(p);
    } else {
        walk(p);
    }
}

static void store_stopped(struct chunk_stop *stop, int rc)
{
    struct chunk_process *p = container_of(stop, struct chunk_process, stop);
    p->rc = p->rc < 0 ? p->rc : rc;
    loop_stop(p->host.loop, 0);
}

static int chunk_process_run(struct chunk_process *p)
{
    int rc = host_init_bare(&p->host, &p->error);
    rc = rc < 0 ? rc : chunk_store_look(p->host.disk, p->directory, &p->looked, &p->error);
    if (rc < 0) {
        return rc;
    }
    const struct chunk_options opt = {.env = &p->host.env,
                                      .engine = p->looked.engine,
                                      .directory = p->directory,
                                      .cluster = p->looked.cluster,
                                      .user = &p->user,
                                      .thorough = p->tool == CHUNK_TOOL_VERIFY};
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

static int chunk_tool(struct cli *c, enum chunk_tool tool)
{
    struct chunk_process p = {.tool = tool, .directory = cli_argument(c, 0), .to = server_lines(c)};
    const char *only = tool == CHUNK_TOOL_STATS ? NULL : cli_value(c, "data");
    if (only != NULL) {
        p.only = true;
        if (text_to_u64(only, &p.data_id) < 0) {
            return cli_usage(c, "--data: '%s' is not a number", only);
        }
        p.from.data_id = p.data_id;
    }
    int rc = chunk_process_run(&p);
    tree_line_fini(&p.line);
    host_fini(&p.host);
    if (rc < 0) {
        return cli_fail(c, "%s: %s", p.directory, err_message(&p.error, rc));
    }
    return p.bad > 0 || p.wrong ? CLI_EXIT_FAILED : 0;
}

int server_chunk_format(struct cli *c)
{
    struct host host;
    struct err e = {0};
    const char *path = cli_argument(c, 0);
    int rc = host_init_bare(&host, &e);
    rc = rc < 0 ? rc : chunk_device_format(host.disk, path, cli_flag(c, "force"), &e);
    host_fini(&host);
    if (rc == -EEXIST) {
        cli_fail(c, "%s", err_message(&e, rc));
        cli_say(c, "Nothing was written. If that is not needed any more: --force.");
        return CLI_EXIT_FAILED;
    }
    return rc < 0 ? cli_fail(c, "%s", err_message(&e, rc)) : 0;
}

int server_chunk_stats(struct cli *c)
{
    return chunk_tool(c, CHUNK_TOOL_STATS);
}

int server_chunk_dump(struct cli *c)
{
    return chunk_tool(c, CHUNK_TOOL_DUMP);
}

int server_chunk_verify(struct cli *c)
{
    return chunk_tool(c, CHUNK_TOOL_VERIFY);
}
