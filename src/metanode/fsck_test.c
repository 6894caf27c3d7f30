/* The check of the metadata page by page: for root, one at a time, on one snapshot. */
#include "metanode/metanode.h"

#include "metanode/rig_report_priv.h"
#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

#include <string.h>

#define FILES 2200u /* two records each, and a page has 4,096 */

static int check_page(struct rig_client *c, uint64_t run, uint64_t records)
{
    struct proto_fsck_request q = {.caller = rig_caller(c), .run = run, .records = records};
    return rig_call(c, PROTO_OP_fsck, &q);
}

static void make_files(struct rig *r, struct rig_client *c, unsigned from, unsigned count)
{
    for (unsigned i = from; i < from + count; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "f%u", i);
        struct proto_create_request q = rig_file(c, name, "");
        CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    }
    (void)r;
}

TEST(a_check_goes_on_where_it_was_and_sees_one_moment)
{
    struct rig r;
    rig_ready(&r, 2, testing_seed());
    struct rig_client *a = &r.client[0], *b = &r.client[1];
    make_files(&r, a, 0, FILES);
    a->flags = PEER_CALL_AGAIN;
    b->flags = PEER_CALL_AGAIN;
    CHECK_OK(check_page(a, 0, 0));
    struct proto_fsck_reply first = *(const struct proto_fsck_reply *)a->reply;
    CHECK_TRUE(!first.done && first.records >= 4096 && first.run != 0);
    CHECK_EQ(first.findings.count, 0);
    CHECK_RC(check_page(b, first.run, first.records), ESTALE); /* it is another's */
    CHECK_RC(check_page(a, first.run, first.records - 1), ESTALE);
    make_files(&r, b, FILES, 10); /* counters change, but not in the snapshot */
    CHECK_OK(check_page(a, first.run, first.records));
    const struct proto_fsck_reply *last = a->reply;
    CHECK_TRUE(last->done && !last->restarted && last->records > first.records);
    CHECK_EQ(last->findings.count, 0);
    CHECK_RC(check_page(a, first.run, last->records), ESTALE); /* over */
    rig_over(&r);
}

TEST(a_check_is_for_root_and_ends_when_nobody_goes_on)
{
    struct rig r;
    rig_ready(&r, 2, testing_seed());
    struct rig_client *a = &r.client[0], *b = &r.client[1];
    make_files(&r, a, 0, FILES);
    a->flags = PEER_CALL_AGAIN;
    b->flags = PEER_CALL_AGAIN;
    uint32_t root = a->cred;
    CHECK_OK(rig_credential(a, 1000));
    CHECK_TRUE(a->cred != root);
    CHECK_RC(check_page(a, 0, 0), EPERM);
    a->cred = root;
    CHECK_OK(check_page(a, 0, 0));
    struct proto_fsck_reply first = *(const struct proto_fsck_reply *)a->reply;
    for (unsigned i = 0; i < 35; i++) {
        rig_keep_alive(&r, a, 1);
        rig_keep_alive(&r, b, 1);
    }
    CHECK_RC(check_page(a, first.run, first.records), ESTALE);
    CHECK_OK(check_page(b, 0, 0));
    rig_over(&r);
}

/* ---- What data nodes hold ---- */

static bool all_serve(void *ctx)
{
    const struct rig *r = ctx;
    bool all = r->m->chains.count > 0;
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        all = all && cluster_row_serving_count(row) == row->count;
    }
    return all && r->target[0].leased && r->target[1].leased;
}
static size_t check_data(struct rig_client *c, const char *code, struct proto_finding *ret)
{
    struct proto_fsck_request q = {.caller = rig_caller(c), .data = true};
    const struct proto_fsck_reply *m = NULL;
    size_t count = 0;
    do {
        c->flags = PEER_CALL_AGAIN;
        CHECK_OK(rig_call(c, PROTO_OP_fsck, &q));
        m = c->reply;
        q.run = m->run;
        q.records = m->records;
        for (size_t i = 0; i < m->findings.count; i++) {
            bool fits = proto_bytes_equal(m->findings.at[i].code, proto_bytes_text(code));
            count += fits ? 1 : 0;
            *ret = fits ? m->findings.at[i] : *ret;
        }
    } while (!m->done);
    return count;
}
static bool finding_says(const struct proto_finding *f, const char *words)
{
    return memmem(f->text.at, f->text.len, words, strlen(words)) != NULL;
}

TEST(a_check_of_data_says_whose_it_is)
{
    struct rig r;
    static struct rig_told x;
    struct proto_finding f = {0};
    rig_new(&r, testing_seed());
    rig_serve(&r);
    rig_target_start(&r, 0, false);
    rig_target_start(&r, 1, false);
    CHECK(rig_until(&r, all_serve, &r));
    rig_client_ready(&r, 0);
    struct rig_client *c = &r.client[0];
    struct proto_create_request q = rig_file(c, "mine", NULL);
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    uint64_t data_id = ((const struct proto_create_reply *)c->reply)->layout.data_id;
    uint64_t ino = ((const struct proto_create_reply *)c->reply)->attr.ino;
    CHECK_EQ(check_data(c, "chunk.damaged", &f) + check_data(c, "target.down", &f), 0);
    r.target[0].damaged = r.target[1].damaged = 3;
    rig_run(&r, RIG_SECOND);
    x.item[0] = rig_damage(data_id, PROTO_DAMAGE_FOUND);
    x.item[1] = rig_damage(data_id + 1000, PROTO_DAMAGE_FOUND);
    CHECK_OK(rig_report(&r, &x, 0, 2));
    CHECK_EQ(check_data(c, "chunk.damaged", &f), 2);
    x.item[0] = rig_damage(data_id, PROTO_DAMAGE_NO_COPY);
    CHECK_OK(rig_report(&r, &x, 1, 1));
    CHECK_EQ(check_data(c, "chunk.lost", &f), 1);
    CHECK_EQ(f.ino, ino);
    CHECK_TRUE(proto_bytes_equal(f.path, proto_bytes_text("/mine")));
    CHECK_TRUE(finding_says(&f, "chunk 7 is damaged at target.0; chunk 7 is damaged at target.1, "
                                "no copy is good"));
    CHECK_EQ(check_data(c, "chunk.damaged", &f), 1);
    CHECK_EQ(f.ino, 0);
    CHECK_TRUE(finding_says(&f, "of no file: chunk 7 is damaged at target.0"));
    CHECK_EQ(check_data(c, "chain.copies", &f), 0);
    rig_target_kill(&r, 1);
    for (unsigned i = 0; i < 5; i++) {
        rig_keep_alive(&r, c, 1);
    }
    CHECK_EQ(check_data(c, "target.down", &f), 1);
    CHECK_TRUE(finding_says(&f, "target.1 (host "));
    CHECK_EQ(check_data(c, "chain.copies", &f), r.m->chains.count);
    CHECK_TRUE(finding_says(&f, "has 1 of 2 copies; target.1 is missing"));
    CHECK_EQ(check_data(c, "garbage.waits", &f), 0);
    rig_over(&r);
}

/* The engine does not keep the moment of a check for ever: it begins once more and says so, and
 * when that is not kept either it says that it is busy. */
TEST(a_check_whose_snapshot_is_given_up_begins_again)
{
    struct rig r;
    unsigned restarted = 0;
    rig_ready(&r, 1, testing_seed());
    struct rig_client *a = &r.client[0];
    make_files(&r, a, 0, FILES);
    a->flags = PEER_CALL_AGAIN;
    for (unsigned i = 0; i < 30; i++) {
        struct proto_fsck_reply page = {0};
        for (unsigned pages = 0; !page.done; pages++) {
            CHECK_TRUE(pages < 50);
            fault_arm(r.fault, "tree.snapshot", rand_range(&r.rand, 1, 3000), 1 + i % 2);
            CHECK_OK(check_page(a, page.run, page.records));
            page = *(const struct proto_fsck_reply *)a->reply;
            restarted += page.restarted ? 1 : 0;
            CHECK_EQ(page.findings.count, 0);
        }
    }
    fault_disarm(r.fault, NULL);
    CHECK_TRUE(r.opt.engine != METANODE_ENGINE_TREE || restarted > 0);
    rig_over(&r);
}
