/*
 * metanode/consult.c -- a mutation asks those who have open what it changes, before it is proposed
 * (coherence.md 6.0): removing the last name of a file asks who keeps it (section 7); becoming a
 * writer asks whether somebody reads, as then nobody may hold back what he writes (6.2); setting
 * the time of a change asks writers for theirs, so that an older one does not come after it (6.1).
 *
 * What a name stands for is looked up before the log, and may be another file by the time that the
 * command is applied: the command says whom it was about, and if that is not so it begins again.
 */
#include "metanode/mutate_priv.h"

#define CONSULT_TRIES 32u
#define NOBODY UINT64_MAX /* a victim that no file is */

static bool consult_removes(uint16_t opcode)
{
    return opcode == PROTO_OP_unlink || opcode == PROTO_OP_rename;
}

static bool consult_writes(const struct metanode_mutation *u)
{
    const struct proto_create_request *q = metanode_mutation_request(u)->body;
    uint32_t flags = u->opcode == PROTO_OP_create ? q->flags : 0;
    bool may_exist =
        (flags & (PROTO_CREATE_WOPEN | PROTO_CREATE_EXCLUSIVE | PROTO_CREATE_ORPHAN)) ==
        PROTO_CREATE_WOPEN;
    return u->opcode == PROTO_OP_wopen || may_exist;
}

/* Sets it the time of the last change, though another client may write? */
static bool consult_sets_time(const struct metanode_mutation *u)
{
    const struct proto_setattr_request *q = metanode_mutation_request(u)->body;
    return u->opcode == PROTO_OP_setattr &&
           (q->mask & (PROTO_SET_MTIME | PROTO_SET_MTIME_NOW)) != 0 &&
           metanode_writer_elsewhere(u->m, q->ino, u->session);
}

/* It must not overtake the removal for which its client has said that it keeps the file. */
static bool consult_releases(const struct metanode_mutation *u)
{
    const struct proto_release_request *q = metanode_mutation_request(u)->body;
    return u->opcode == PROTO_OP_release && metanode_is_latched(u->m, q->ino);
}

int metanode_consult_init(struct metanode_mutation *u)
{
    struct metanode *m = u->m;
    bool holds = consult_removes(u->opcode) || consult_writes(u);
    if (holds && metanode_grants_none(&m->grants)) {
        u->blind = true; /* who opens a file from now on waits until this is through */
        metanode_grants_blind(m, 1);
        return 0;
    }
    if (!holds && !consult_sets_time(u) && !consult_releases(u)) {
        return 0;
    }
    u->consult = mem_zalloc(sizeof *u->consult);
    if (u->consult == NULL) {
        return -ENOMEM;
    }
    u->consult->mutation = u;
    return 0;
}

int metanode_consult_read(struct metanode_mutation *u, const struct namespace_view *v)
{
    struct mutation_consult *c = u->consult;
    const struct proto_setattr_request *q = metanode_mutation_request(u)->body;
    struct namespace_wopens w;
    if (u->opcode != PROTO_OP_setattr) {
        return 0;
    }
    int rc = namespace_writers(v, q->ino, 0, METANODE_CONSULT_WRITERS, &w);
    c->writer_count = 0;
    for (size_t i = 0; rc == 0 && i < w.count; i++) {
        if (w.ids[i] != u->session) {
            c->writer[c->writer_count++] = w.ids[i];
        }
    }
    return rc;
}

static void consult_propose(struct metanode_mutation *u)
{
    const struct mutation_consult *c = u->consult;
    const struct metanode_inval *x = &c->inval;
    const struct peer_request *r = metanode_mutation_request(u);
    struct namespace_fold fold = {
        .ino = c->ino, .mtime_ns = x->mtime_ns, .ctime_ns = x->ctime_ns, .atime_ns = x->atime_ns};
    bool by_name = consult_removes(u->opcode) || u->opcode == PROTO_OP_create;
    struct namespace_command said = {.victim = by_name ? c->ino : 0};
    if (c->asked) {
        said.keeps = (struct namespace_keep_list){.at = x->keep, .count = x->keep_count};
        said.folds = (struct namespace_fold_list){.at = &fold, .count = x->has_times ? 1 : 0};
    }
    said.readers = c->readers;
    mem_free(u->proposal);
    u->proposal = NULL;
    int rc = metanode_command(u->m, u->opcode, proto_bytes_of(r->wire->body, r->wire->body_len),
                              &said, &u->proposal);
    if (rc < 0) {
        metanode_mutation_end(u, -ERR_busy, NULL);
        return;
    }
    metanode_mutation_submit(u);
}

static void consult_asked(struct metanode_inval *x, int rc)
{
    struct mutation_consult *c = container_of(x, struct mutation_consult, inval);
    c->asked = rc == 0;
    c->readers = c->asked && x->is_open && consult_writes(c->mutation);
    if (rc < 0) {
        metanode_mutation_end(c->mutation, rc, NULL);
    } else {
        consult_propose(c->mutation);
    }
}

static void consult_ask(struct metanode_mutation *u, const uint64_t *session, size_t count)
{
    struct mutation_consult *c = u->consult;
    c->inval = (struct metanode_inval){.done = consult_asked, .ino = c->ino};
    c->inval.bits = consult_removes(u->opcode) ? PROTO_INVAL_UNLINK
                    : consult_writes(u)        ? PROTO_INVAL_WOPEN
                                               : PROTO_INVAL_TIMES;
    if (count == 0) {
        consult_propose(u);
    } else if (metanode_inval_start(u->m, &c->inval, session, count) < 0) {
        metanode_mutation_end(u, -ERR_busy, NULL);
    }
}

/* What the client has not said to be open may have been opened since: then it is asked, too. */
static uint64_t consult_but(const struct metanode_mutation *u)
{
    const void *body = metanode_mutation_request(u)->body;
    const struct proto_unlink_request *r = body;
    const struct proto_rename_request *n = body;
    bool removes = consult_removes(u->opcode);
    bool knows = u->opcode == PROTO_OP_unlink ? r->is_open : removes && n->victim_open;
    bool asks = removes && !knows && metanode_grant_has(u->m, u->session, u->consult->ino);
    return asks ? 0 : u->session;
}

static void consult_holders(struct metanode_mutation *u)
{
    struct mutation_consult *c = u->consult;
    CLEANUP(mem_freep) uint64_t *session = NULL;
    size_t count = 0;
    bool asks = u->opcode != PROTO_OP_release;
    if (asks && metanode_grant_holders(u->m, c->ino, consult_but(u), &session, &count) < 0) {
        metanode_mutation_end(u, -ERR_busy, NULL);
        return;
    }
    consult_ask(u, session, count);
}

/* Another change of the same file is through: what was looked up before it may be old. */
static void consult_again(struct metanode_latch_wait *w)
{
    struct mutation_consult *c = container_of(w, struct mutation_consult, wait);
    struct metanode_mutation *u = c->mutation;
    if (u->m->phase != METANODE_SERVING) {
        metanode_mutation_end(u, -ERR_unavailable, NULL);
    } else {
        metanode_mutation_check(u);
    }
}

/* The file that it is about; NOBODY: it will fail, or makes one. */
static uint64_t consult_object(const struct metanode_mutation *u)
{
    const struct namespace_reply *r = &u->reply;
    uint64_t ino = u->opcode == PROTO_OP_rename ? r->result.victim : r->result.ino;
    bool made = u->opcode == PROTO_OP_create && r->result.created;
    return r->rc < 0 || ino == 0 || made ? NOBODY : ino;
}

void metanode_consult(struct metanode_mutation *u)
{
    struct mutation_consult *c = u->consult;
    c->ino = consult_object(u);
    c->asked = false;
    c->readers = consult_writes(u) && u->reply.result.mode == PROTO_OPEN_S; /* as it is anyway */
    if (c->ino == NOBODY || c->readers) {
        consult_propose(u);
        return;
    }
    if (u->opcode == PROTO_OP_setattr) {
        consult_ask(u, c->writer, c->writer_count);
        return;
    }
    c->wait.go = consult_again;
    int rc = metanode_latch(u->m, c->ino, &c->wait);
    if (rc < 0) {
        metanode_mutation_end(u, -ERR_busy, NULL);
    } else if (rc == 1) {
        c->latched = c->ino;
        consult_holders(u);
    }
}

static void consult_unlatch(struct metanode_mutation *u)
{
    struct mutation_consult *c = u->consult;
    metanode_inval_fini(&c->inval);
    if (c->latched != 0) {
        uint64_t ino = c->latched;
        c->latched = 0;
        metanode_unlatch(u->m, ino);
    }
}

/* A session that could not be asked has come back before this was applied. */
static void consult_confirm(const struct metanode_mutation *u)
{
    const struct metanode_inval *x = &u->consult->inval;
    for (size_t i = 0; u->consult->asked && i < x->keep_count; i++) {
        struct metanode_session *s =
            x->keep[i].maybe ? metanode_session_find(u->m, x->keep[i].session) : NULL;
        if (s != NULL && !s->unclaimed && !metanode_session_is_lapsed(u->m, s)) {
            metanode_orphans_confirm(u->m, s);
        }
    }
}

bool metanode_consult_applied(struct metanode_mutation *u, int rc,
                              const struct namespace_reply *reply)
{
    struct mutation_consult *c = u->consult;
    if (c == NULL || rc < 0) {
        return false;
    }
    bool moved = reply->rc == -ERR_busy && reply->moved && ++c->tries < CONSULT_TRIES;
    if (reply->rc == 0) {
        consult_confirm(u);
    }
    if (c->readers && reply->rc == 0 && reply->result.mode == PROTO_OPEN_W) {
        metanode_share_press(u->m, c->ino); /* small contents: it moves them, then it shares */
    }
    consult_unlatch(u);
    return moved && u->m->phase == METANODE_SERVING;
}

void metanode_consult_fini(struct metanode_mutation *u)
{
    if (u->blind) {
        u->blind = false;
        metanode_grants_blind(u->m, -1);
    }
    if (u->consult != NULL) {
        consult_unlatch(u);
        mem_free(u->consult);
        u->consult = NULL;
    }
}
