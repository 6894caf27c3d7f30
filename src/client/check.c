#include "opendfs/check.h"
#include "client/op_priv.h"

#include <string.h>

/* The check of the metadata, part by part; looks for data that belongs to no file. */

static void check_free(struct opendfs *fs, void *held)
{
    (void)fs;
    mem_free(held);
}

static const char *check_text(char **at, struct proto_bytes from)
{
    char *text = *at;
    if (from.len > 0) {
        memcpy(text, from.at, from.len);
    }
    text[from.len] = '\0';
    *at += from.len + 1;
    return text;
}

/* One block: the page, the findings, the texts. */
static int check_take(struct client_task *t, const struct proto_fsck_reply *m)
{
    struct opendfs_check *check = client_op_of(t->op)->out;
    size_t count = m->findings.count;
    size_t bytes = sizeof(struct opendfs_check_page) + count * sizeof(struct opendfs_finding);
    for (size_t i = 0; i < count; i++) {
        const struct proto_finding *f = &m->findings.at[i];
        bytes += f->code.len + f->path.len + f->text.len + 3;
    }
    struct opendfs_check_page *page = mem_zalloc(bytes);
    if (page == NULL) {
        return -ENOMEM;
    }
    struct opendfs_finding *findings = (struct opendfs_finding *)(page + 1);
    char *text = (char *)(findings + count);
    *page = (struct opendfs_check_page){.findings = findings,
                                        .count = count,
                                        .records = m->records,
                                        .done = m->done,
                                        .restarted = m->restarted};
    for (size_t i = 0; i < count; i++) {
        const struct proto_finding *f = &m->findings.at[i];
        findings[i].ino = f->ino;
        findings[i].code = check_text(&text, f->code);
        findings[i].path = check_text(&text, f->path);
        findings[i].text = check_text(&text, f->text);
    }
    check->run = m->run;
    check->records = m->records;
    t->op->data = page;
    t->op->data_len = bytes;
    client_op_hold(t->op, page, check_free);
    return 0;
}

static void check_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    client_task_finish(t, check_take(t, r->body));
}

static void check_run(struct opendfs_op *op)
{
    const struct opendfs_check *check = client_op_of(op)->out;
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.fsck = (struct proto_fsck_request){
            .run = check->run, .records = check->records, .data = check->data != 0};
        client_task_query(t, PROTO_OP_fsck, check_done);
    }
}

void opendfs_async_check_next(struct opendfs *fs, struct opendfs_op *op,
                              struct opendfs_check *check)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->out = check;
    client_op_start(fs, op, check_run);
}

static void audit_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    client_task_finish(t, 0);
}

static void audit_run(struct opendfs_op *op)
{
    const struct opendfs_audit *a = client_op_of(op)->in;
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.audit = (struct proto_audit_request){
            .action = a->release != 0 ? PROTO_AUDIT_RELEASE : PROTO_AUDIT_START,
            .first = a->first,
            .last = a->last};
        client_task_query(t, PROTO_OP_audit, audit_done);
    }
}

void opendfs_async_audit(struct opendfs *fs, struct opendfs_op *op,
                         const struct opendfs_audit *audit)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->in = audit;
    client_op_start(fs, op, audit_run);
}
