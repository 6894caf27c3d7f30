/* metanode/report_test.c -- what targets have noticed, at the leader: by name, bounded, forgotten
 * when it is over; in the words of the status. */
#include "metanode/report_priv.h"

#include "metanode/rig_report_priv.h"
#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

#include <string.h>

static bool is_up(void *ctx)
{
    const struct rig *r = ctx;
    return r->target[0].leased && r->target[1].leased;
}
static void start_two(struct rig *r)
{
    rig_new(r, testing_seed());
    rig_serve(r);
    rig_target_start(r, 0, false);
    rig_target_start(r, 1, false);
    CHECK(rig_until(r, is_up, r));
    rig_client_ready(r, 0);
}
static bool status_says(struct rig *r, uint8_t format, const char *words)
{
    struct proto_status_request q = {.format = format};
    struct rig_client *c = &r->client[0];
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_status, &q));
    const struct proto_status_reply *m = c->reply;
    return memmem(m->body.at, m->body.len, words, strlen(words)) != NULL;
}
static void run_alive(struct rig *r, unsigned seconds)
{
    for (unsigned i = 0; i < seconds; i++) {
        rig_keep_alive(r, &r->client[0], 1);
    }
}

TEST(reports_of_damage_are_known_by_name_until_it_is_over)
{
    struct rig r;
    static struct rig_told x;
    start_two(&r);
    r.target[0].damaged = r.target[1].damaged = 2;
    rig_run(&r, RIG_SECOND);
    x.item[0] = rig_damage(40, PROTO_DAMAGE_FOUND);
    x.item[1] = rig_damage(41, PROTO_DAMAGE_FOUND);
    CHECK_OK(rig_report(&r, &x, 0, 2));
    CHECK_OK(rig_report(&r, &x, 0, 2)); /* once more: the same */
    CHECK_EQ(r.m->reports.damage_count, 2);
    CHECK_OK(rig_report(&r, &x, 1, 1));
    CHECK_EQ(r.m->reports.damage_count, 3);
    CHECK_TRUE(status_says(&r, PROTO_FORMAT_JSON, "\"data\":\"41\",\"index\":7,\"copy\":true"));
    CHECK_TRUE(!status_says(&r, PROTO_FORMAT_TEXT, "without a good copy"));
    x.item[0] = rig_damage(41, PROTO_DAMAGE_REPAIRED);
    CHECK_OK(rig_report(&r, &x, 0, 1));
    CHECK_EQ(r.m->reports.damage_count, 2);
    x.item[0] = rig_damage(40, PROTO_DAMAGE_NO_COPY);
    CHECK_OK(rig_report(&r, &x, 0, 1));
    CHECK_EQ(r.m->reports.damage_count, 2);
    CHECK_TRUE(
        status_says(&r, PROTO_FORMAT_TEXT, "unavailable: 1 damaged chunk without a good copy"));
    CHECK_TRUE(status_says(&r, PROTO_FORMAT_JSON, "\"data\":\"40\",\"index\":7,\"copy\":false"));
    r.target[0].damaged = 0; /* its heartbeats know better than what is remembered */
    rig_run(&r, RIG_SECOND);
    CHECK_EQ(r.m->reports.damage_count, 1);
    CHECK_TRUE(!status_says(&r, PROTO_FORMAT_TEXT, "without a good copy"));
    rig_target_kill(&r, 1);
    rig_target_start(&r, 1, false); /* it will tell anew what stands */
    r.target[1].damaged = 2;
    CHECK(rig_until(&r, is_up, &r));
    CHECK_EQ(r.m->reports.damage_count, 0);
    rig_over(&r);
}

TEST(reports_that_nobody_repeats_are_over)
{
    struct rig r;
    static struct rig_told x;
    start_two(&r);
    r.target[0].damaged = 1;
    rig_run(&r, RIG_SECOND);
    x.item[0] = rig_damage(40, PROTO_DAMAGE_NO_COPY);
    CHECK_OK(rig_report(&r, &x, 0, 1));
    run_alive(&r, 200);
    CHECK_OK(rig_report(&r, &x, 0, 1));
    run_alive(&r, 200);
    CHECK_TRUE(status_says(&r, PROTO_FORMAT_TEXT, "1 damaged chunk without a good copy"));
    run_alive(&r, 150);
    CHECK_TRUE(!status_says(&r, PROTO_FORMAT_TEXT, "without a good copy"));
    rig_over(&r);
}

TEST(reports_are_bounded_and_those_of_strangers_refused)
{
    struct rig r;
    static struct rig_told x;
    start_two(&r);
    r.target[0].damaged = 5000;
    rig_run(&r, RIG_SECOND);
    for (uint64_t id = 1; id < METANODE_DAMAGES_MAX + 600;) {
        for (size_t i = 0; i < 256; i++) {
            x.item[i] = rig_damage(id++, PROTO_DAMAGE_FOUND);
        }
        CHECK_OK(rig_report(&r, &x, 0, 256));
    }
    CHECK_EQ(r.m->reports.damage_count, METANODE_DAMAGES_MAX);
    x.item[0] = (struct proto_report_item){.kind = PROTO_REPORT_DAMAGE, .merged = 9};
    x.item[1] = (struct proto_report_item){.kind = 77, .merged = 9};
    x.item[2] = rig_damage(1u << 20, (enum proto_damage)77);
    CHECK_OK(rig_report(&r, &x, 0, 3)); /* all of all chains; of a later version */
    CHECK_EQ(r.m->reports.damage_count, METANODE_DAMAGES_MAX);
    r.target[0].incarnation--; /* of an earlier life */
    CHECK_RC(rig_report(&r, &x, 0, 1), ESTALE);
    r.target[0].incarnation++;
    rig_over(&r);
}

TEST(reports_of_failed_disks_and_figures_are_in_the_status)
{
    struct rig r;
    static struct rig_told x;
    start_two(&r);
    x.q.disk_error = -EIO;
    x.q.disk_text = proto_bytes_text("a sync failed");
    x.q.has_figures = true;
    x.q.figures = (struct proto_report_figures){.chunks = 12345, .resting = 4096};
    x.item[0] =
        (struct proto_report_item){.kind = PROTO_REPORT_RESYNCED, .merged = 2, .copied = 10};
    CHECK_OK(rig_report(&r, &x, 0, 1));
    CHECK_TRUE(status_says(&r, PROTO_FORMAT_JSON, "\"disk_error\":\"a sync failed\""));
    CHECK_TRUE(status_says(&r, PROTO_FORMAT_JSON, "\"chunks\":12345"));
    CHECK_TRUE(
        status_says(&r, PROTO_FORMAT_TEXT, "the disk of 1 target has failed within the last"));
    CHECK_EQ(stats_counter_value(&r.m->reports.resyncs), 2);
    CHECK_EQ(stats_counter_value(&r.m->reports.resync_copied), 10);
    run_alive(&r, 3601);
    CHECK_TRUE(!status_says(&r, PROTO_FORMAT_TEXT, "has failed within the last"));
    rig_over(&r);
}
