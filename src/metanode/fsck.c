/*
 * metanode/fsck.c -- the check of namespace/fsck.h for who asks: each question looks at some
 * thousand records of a snapshot that is kept between the questions, so that nobody else waits for
 * long. One check at a time; the snapshot of one that is not asked for any more is let go.
 */
#include "metanode/fsck_data_priv.h"
#include "metanode/metanode_priv.h"

#include "namespace/fsck.h"

#define CHECK_PAGE_RECORDS 4096u
#define CHECK_STEP 16u           /* records between two looks at the limits */
#define CHECK_STEP_FINDINGS 128u /* that so many may have */
#define CHECK_PAGE_FINDINGS 512u /* of a message */
#define CHECK_IDLE_MS 30000u

struct metanode_check {
    struct metanode *m;
    struct kv_snapshot *snapshot; /* NULL: none is under way */
    struct kv_need need;
    struct kv_fetch fetch;
    struct mem_arena arena;
    struct namespace_fsck fsck;
    struct namespace_fsck_sink sink;
    struct loop_timer idle;
    uint64_t run, session;
    /* what data nodes hold */
    bool wants_data, over; /* over: all was told */
    struct metanode_fsck_data data;
    struct metanode_fsck_more more;
    struct namespace_state state;
    /* of the question that is being answered */
    struct peer_request *request;
    struct proto_finding *found; /* in its arena */
    size_t count, overflow;
    uint64_t until;
    bool restarted;
    bool lost; /* it was ended for want of room, or because its moment is not kept any more */
};

static void check_end(struct metanode_check *x)
{
    kv_need_release(&x->need);
    x->snapshot = kv_snapshot_free(x->snapshot);
    x->fsck = (struct namespace_fsck){.done = false};
    loop_timer_cancel(x->m->env->loop, &x->idle);
}

static void check_idle(struct loop_timer *t)
{
    struct metanode_check *x = container_of(t, struct metanode_check, idle);
    if (x->request == NULL) {
        check_end(x);
    }
}

static int check_start(struct metanode_check *x)
{
    x->over = false;
    if (x->wants_data) {
        metanode_fsck_data_begin(x->m, &x->data);
        x->more = (struct metanode_fsck_more){0};
        x->fsck.data_id = x->data.id;
        x->fsck.data_count = x->data.count;
    }
    return kv_snapshot_new(x->m->kv, &x->snapshot);
}

static struct proto_bytes check_text(struct metanode_check *x, const char *text)
{
    size_t len = strlen(text);
    const char *copy = mem_arena_dup(&x->request->arena, text, len + 1);
    x->overflow += copy == NULL ? 1 : 0;
    return proto_bytes_of(copy, copy == NULL ? 0 : len);
}

static void check_add(struct metanode_check *x, const struct namespace_finding *f)
{
    CHECK(x->count < CHECK_PAGE_FINDINGS);
    x->found[x->count++] = (struct proto_finding){.code = check_text(x, f->code),
                                                  .ino = f->ino,
                                                  .path = check_text(x, f->path),
                                                  .text = check_text(x, f->text)};
}

/* A file that has a data id which was asked for. */
static void check_whose(struct metanode_check *x, const struct namespace_finding *f)
{
    struct namespace_finding told = *f;
    struct text text;
    for (size_t i = 0; i < x->data.count; i++) {
        x->data.found[i] = x->data.found[i] || x->data.id[i] == f->data_id;
    }
    text_init(&text, told.text, sizeof told.text);
    told.code = metanode_fsck_data_of(x->m, f->data_id, &text);
    check_add(x, &told);
}

static void check_found(struct namespace_fsck_sink *s, const struct namespace_finding *f)
{
    struct metanode_check *x = container_of(s, struct metanode_check, sink);
    if (f->data_id != 0) {
        check_whose(x, f);
    } else {
        check_add(x, f);
    }
}

/* What belongs to no file, as far as the page has room. */
static void check_more(struct metanode_check *x)
{
    bool some = x->wants_data;
    while (some && x->count < CHECK_PAGE_FINDINGS) {
        some = metanode_fsck_data_more(x->m, &x->data, x->state.garbage, &x->more);
        if (some) {
            x->found[x->count++] = (struct proto_finding){.code = check_text(x, x->more.code),
                                                          .text = check_text(x, x->more.text)};
        }
    }
    x->over = !some;
}

static void check_answer(struct metanode_check *x, int rc)
{
    struct metanode *m = x->m;
    struct metanode_session *s = metanode_session_find(m, x->session);
    struct peer_request *r = x->request;
    rc = rc == 0 && !metanode_leads(m) ? -ERR_not_leader : rc;
    if (rc == 0 && x->fsck.done) {
        check_more(x);
    }
    rc = rc == 0 && x->overflow > 0 ? -ERR_busy : rc;
    x->request = NULL;
    if (rc < 0 || s == NULL) {
        check_end(x);
        x->lost = rc == -ERR_busy;
        metanode_refuse(m, s, r, s == NULL ? -ERR_session_expired : rc, NULL);
        return;
    }
    struct proto_fsck_reply reply = {.trailer = metanode_trailer(m, s),
                                     .run = x->run,
                                     .records = x->fsck.records,
                                     .done = x->over,
                                     .restarted = x->restarted,
                                     .findings = {.at = x->found, .count = x->count}};
    if (reply.done) {
        check_end(x);
    } else {
        loop_timer_in(m->env->loop, &x->idle, CHECK_IDLE_MS * METANODE_NS_PER_MS);
    }
    peer_request_answer(r, &reply, NULL);
}

/* Of root only: it tells names that others may not see. */
static int check_may(struct metanode_check *x, const struct namespace_view *v)
{
    const struct proto_fsck_request *q = x->request->body;
    struct namespace_cred cred;
    int rc = namespace_view_cred(v, q->caller.session, q->caller.cred, &cred);
    return rc < 0 ? rc : cred.uid == 0 ? 0 : -EPERM;
}

static int check_again(struct metanode_check *x)
{
    check_end(x);
    x->restarted = true;
    x->count = 0;
    x->until = CHECK_PAGE_RECORDS;
    return check_start(x);
}

static void check_fetched(struct kv_fetch *f, int rc);

/* -ERR_need: a fetch is under way; else the page is complete, or it failed. */
static int check_page(struct metanode_check *x)
{
    struct namespace_view v = {.need = &x->need, .arena = &x->arena};
    int rc = 0;
    while (rc == 0 && !x->fsck.done && x->fsck.records < x->until &&
           x->count + CHECK_STEP_FINDINGS <= CHECK_PAGE_FINDINGS) {
        mem_arena_reset(&x->arena);
        v.snapshot = x->snapshot;
        rc = check_may(x, &v);
        rc = rc < 0 ? rc : namespace_view_state(&v, &x->state);
        if (rc == 0 && x->wants_data && x->data.count == 0) {
            x->fsck.done = true; /* nobody's data is looked for */
            break;
        }
        rc = rc < 0 ? rc : namespace_fsck_step(&v, CHECK_STEP, &x->fsck, &x->sink);
        if (rc == 0) {
            kv_need_release(&x->need);
        } else if (rc == -ECANCELED && !x->restarted) {
            rc = check_again(x);
        }
    }
    return rc;
}

static void check_go(struct metanode_check *x)
{
    int rc = check_page(x);
    if (rc == -ERR_need && x->m->phase != METANODE_ENDED) {
        x->fetch = (struct kv_fetch){.need = &x->need, .done = check_fetched};
        x->m->reads++;
        kv_fetch(x->m->kv, &x->fetch);
        return;
    }
    bool again = rc == -ERR_need || rc == -ENOBUFS || rc == -ECANCELED || rc == -ENOMEM;
    check_answer(x, again ? -ERR_busy : rc);
}

static void check_fetched(struct kv_fetch *f, int rc)
{
    struct metanode_check *x = container_of(f, struct metanode_check, fetch);
    x->m->reads--;
    if (rc < 0) {
        check_answer(x, rc == -ENOMEM || rc == -ECANCELED ? -ERR_busy : rc);
    } else {
        check_go(x);
    }
}

/* Where the asker left off, or from the start. */
static int check_begin(struct metanode_check *x, const struct proto_fsck_request *q)
{
    if (q->run == 0) {
        if (x->snapshot != NULL && x->session != q->caller.session) {
            return -ERR_busy;
        }
        check_end(x);
        x->lost = false;
        x->run = loop_random(x->m->env->loop) | 1;
        x->wants_data = q->data;
        return check_start(x);
    }
    bool known = q->run == x->run && q->caller.session == x->session;
    if (known && x->lost) { /* its asker was told that this is busy, and comes again */
        x->lost = false;
        x->restarted = true;
        return check_start(x);
    }
    bool same = x->snapshot != NULL && q->records == x->fsck.records;
    return known && same ? 0 : -ESTALE;
}

void metanode_fsck(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    struct metanode_check *x = m->cleanup.check;
    const struct proto_fsck_request *q = r->body;
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, q->caller.session) : NULL;
    if (s == NULL) {
        return;
    }
    if (x->request != NULL) {
        metanode_refuse(m, s, r, -ERR_busy, "another check is under way");
        return;
    }
    x->restarted = false;
    int rc = check_begin(x, q);
    struct proto_finding *found = mem_arena_alloc(&r->arena, CHECK_PAGE_FINDINGS * sizeof *found);
    if (rc < 0 || found == NULL) {
        metanode_refuse(m, s, r, rc < 0 ? rc : -ERR_busy,
                        rc == -ERR_busy ? "another check is under way" : NULL);
        return;
    }
    x->session = s->id;
    x->request = r;
    x->found = found;
    x->count = 0;
    x->overflow = 0;
    x->until = x->fsck.records + CHECK_PAGE_RECORDS;
    loop_timer_cancel(m->env->loop, &x->idle);
    check_go(x);
}

int metanode_fsck_init(struct metanode *m)
{
    struct metanode_check *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return -ENOMEM;
    }
    x->m = m;
    x->idle.fire = check_idle;
    x->sink.found = check_found;
    mem_arena_init(&x->arena, METANODE_ARENA_BYTES);
    m->cleanup.check = x;
    return 0;
}

void metanode_fsck_fini(struct metanode *m)
{
    struct metanode_check *x = m->cleanup.check;
    if (x != NULL) {
        check_end(x);
        mem_arena_fini(&x->arena);
        mem_free(x);
        m->cleanup.check = NULL;
    }
}
