/* Members of a chain that do not have the same: found by their numbers, looked into by listings,
 * named when it is no write under way, and healed by nobody. */
#include "metanode/compare_priv.h"

#include "metanode/rig_orphan_priv.h"
#include "metanode/rig_report_priv.h"

#include <string.h>

#define HELD 5u

struct scene {
    struct rig r;
    struct rig_told told;
    struct proto_chain_digest digest;
    struct rig_held held[2][HELD];
    uint64_t data_id; /* of the file /mine */
};

/* Both have the same five chunks of chain 1. */
static void open_scene(struct scene *s)
{
    memset(s, 0, sizeof *s);
    rig_orphans_ready(&s->r);
    s->data_id = rig_data_file(&s->r.client[0], "mine");
    for (unsigned t = 0; t < 2; t++) {
        for (uint32_t i = 0; i < HELD; i++) {
            s->held[t][i] = (struct rig_held){
                .data_id = s->data_id, .index = 3 * i, .chain = 1, .ver = 7 + i, .digest = i};
        }
        rig_hold(&s->r, t, s->held[t], HELD);
    }
}

static void say(struct scene *s, unsigned target, uint64_t digest)
{
    const struct metanode_chain *c = metanode_chain_find(s->r.m, 1);
    s->digest = (struct proto_chain_digest){
        .chain = 1, .epoch = c->row.epoch, .count = HELD, .digest = digest};
    s->told.q.digests = (struct proto_chain_digest_list){.at = &s->digest, .count = 1};
    CHECK_OK(rig_report(&s->r, &s->told, target, 0));
}

static size_t named(struct scene *s)
{
    return metanode_differences(s->r.m);
}

static void run(struct scene *s, unsigned seconds)
{
    rig_keep_alive(&s->r, &s->r.client[0], seconds);
}

static size_t check_says(struct scene *s, const char *code, const char *words)
{
    struct rig_client *c = &s->r.client[0];
    struct proto_fsck_request q = {.caller = rig_caller(c), .data = true};
    size_t count = 0;
    const struct proto_fsck_reply *m = NULL;
    do {
        CHECK_OK(rig_call(c, PROTO_OP_fsck, &q));
        m = c->reply;
        q.run = m->run;
        q.records = m->records;
        for (size_t i = 0; i < m->findings.count; i++) {
            const struct proto_finding *f = &m->findings.at[i];
            count += proto_bytes_equal(f->code, proto_bytes_text(code)) &&
                             memmem(f->text.at, f->text.len, words, strlen(words)) != NULL
                         ? 1
                         : 0;
        }
    } while (!m->done);
    return count;
}

TEST(a_difference_that_lasts_is_named_by_its_chunks)
{
    static struct scene s;
    open_scene(&s);
    s.held[1][2].ver = 40; /* another content */
    s.held[1][2].digest = 0xabcd;
    s.held[0][4].chain = 99; /* one that target 0 lacks */
    say(&s, 0, 1);
    say(&s, 1, 2);
    run(&s, 30);
    CHECK_EQ(s.r.target[0].inventories, 0); /* it may be a write */
    run(&s, 50);
    CHECK_EQ(named(&s), 2);
    CHECK_EQ(check_says(&s, "chunk.differs", "chunk 6 is not the same everywhere: target."), 1);
    CHECK_EQ(check_says(&s, "chunk.differs", "target.0 has version 1.9 (00000002)"), 1);
    CHECK_EQ(check_says(&s, "chunk.differs", "target.1 has version 1.40 (0000abcd)"), 1);
    CHECK_EQ(check_says(&s, "chunk.differs", "chunk 12 is not the same everywhere"), 1);
    static const char none[] = "target.0 has none", eleven[] = "target.1 has version 1.11";
    const struct metanode_difference *d = &s.r.m->cleanup.compares->named[1];
    CHECK_TRUE(strstr(d->text, none) != NULL && strstr(d->text, eleven) != NULL);
    struct proto_status_request q = {.format = PROTO_FORMAT_TEXT};
    CHECK_OK(rig_call(&s.r.client[0], PROTO_OP_status, &q));
    const struct proto_status_reply *m = s.r.client[0].reply;
    CHECK_TRUE(memmem(m->body.at, m->body.len, "2 chunks are not the same", 25) != NULL);
    CHECK_EQ(s.r.target[0].removes + s.r.target[1].removes, 0);
    say(&s, 0, 2); /* somebody has written it anew */
    CHECK_EQ(named(&s), 0);
    CHECK_EQ(check_says(&s, "chunk.differs", ""), 0);
    rig_over(&s.r);
}

TEST(members_that_have_the_same_are_not_asked)
{
    static struct scene s;
    open_scene(&s);
    say(&s, 0, 5);
    say(&s, 1, 6);
    run(&s, 40);
    say(&s, 0, 6); /* it was a write */
    run(&s, 100);
    say(&s, 0, 7);
    run(&s, 40);
    say(&s, 1, 7);
    run(&s, 100);
    CHECK_EQ(s.r.target[0].inventories + s.r.target[1].inventories, 0);
    rig_over(&s.r);
}

/* Numbers differ, listings do not; or differ because of what is under way. */
TEST(what_is_written_at_the_moment_is_no_difference)
{
    static struct scene s;
    open_scene(&s);
    s.held[1][2].ver = 40;
    s.held[1][2].busy = true;
    say(&s, 0, 1);
    say(&s, 1, 2);
    run(&s, 100);
    CHECK_EQ(s.r.target[0].inventories, 3); /* nothing is asked for once more */
    CHECK_EQ(named(&s), 0);
    rig_over(&s.r);
}

TEST(a_difference_that_is_another_one_after_a_pause_is_none)
{
    static struct scene s;
    open_scene(&s);
    s.held[1][2].ver = 40;
    s.held[1][3].ver = 40;
    say(&s, 0, 1);
    say(&s, 1, 2);
    for (unsigned i = 0; i < 90 && s.r.target[0].inventories < 3; i++) {
        run(&s, 1); /* three pages: of two entries each */
    }
    CHECK_EQ(s.r.target[0].inventories, 3);
    s.held[1][2].ver = 41; /* it goes on */
    s.held[0][3].ver = 40; /* it is over */
    run(&s, 20);
    CHECK_EQ(s.r.target[0].inventories, 5);
    CHECK_EQ(named(&s), 0);
    rig_over(&s.r);
}

TEST(numbers_count_in_their_epoch_only)
{
    static struct scene s;
    open_scene(&s);
    s.held[1][2].ver = 40;
    say(&s, 0, 1);
    say(&s, 1, 2);
    run(&s, 80);
    CHECK_EQ(named(&s), 1);
    rig_target_kill(&s.r, 1);
    run(&s, 5);
    CHECK_EQ(named(&s), 0); /* another row */
    rig_target_start(&s.r, 1, false);
    CHECK_TRUE(rig_until(&s.r, rig_all_serve, &s.r));
    unsigned asked = s.r.target[0].inventories;
    say(&s, 0, 1);
    run(&s, 100);
    CHECK_EQ(s.r.target[0].inventories, asked); /* one of two has said something */
    s.digest.epoch--;
    s.told.q.digests = (struct proto_chain_digest_list){.at = &s.digest, .count = 1};
    CHECK_OK(rig_report(&s.r, &s.told, 1, 0)); /* of before */
    run(&s, 100);
    CHECK_EQ(s.r.target[0].inventories, asked);
    say(&s, 1, 1);
    s.digest.epoch--;
    CHECK_OK(rig_report(&s.r, &s.told, 1, 0)); /* nor does it take the newer one away */
    say(&s, 0, 2);
    run(&s, 100);
    CHECK_TRUE(s.r.target[0].inventories > asked);
    CHECK_EQ(named(&s), 1);
    rig_over(&s.r);
}

TEST(a_server_may_end_in_the_middle_of_a_comparison)
{
    static struct scene s;
    open_scene(&s);
    s.held[1][2].ver = 40;
    say(&s, 0, 1);
    say(&s, 1, 2);
    for (unsigned i = 0; i < 90 && s.r.target[0].inventories == 0; i++) {
        run(&s, 1);
    }
    CHECK_TRUE(s.r.target[0].inventories > 0);
    rig_stop(&s.r);
    CHECK_TRUE(s.r.m == NULL);
    rig_close(&s.r);
}
