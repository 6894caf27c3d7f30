/* The check of the metadata page by page: for root, one at a time, on one snapshot. */
#include "metanode/metanode.h"

#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

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
