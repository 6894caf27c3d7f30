/* What the server says of the file system of its directory. */
#include "metanode/metanode.h"

#include "base/rand.h"
#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static char *status_in(struct rig_client *c, uint8_t format)
{
    struct proto_status_request q = {.format = format};
    CHECK_OK(rig_call(c, PROTO_OP_status, &q));
    const struct proto_status_reply *m = c->reply;
    char *text = mem_zalloc(m->body.len + 1);
    CHECK_TRUE(text != NULL);
    memcpy(text, m->body.at, m->body.len);
    return text;
}

static bool says(struct rig_client *c, uint8_t format, const char *words)
{
    CLEANUP(mem_freep) char *text = status_in(c, format);
    return strstr(text, words) != NULL;
}

static uint64_t number(struct rig_client *c, const char *name)
{
    CLEANUP(mem_freep) char *text = status_in(c, PROTO_FORMAT_JSON);
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

TEST(the_disk_of_the_server_is_in_its_status)
{
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    struct rig_client *c = &r.client[0];
    static char big[4000];
    struct rand rand;
    rand_seed(&rand, testing_seed());
    disk_sim_capacity(r.disk, 30 * GIB);
    rig_run(&r, UINT64_C(11) * 1000 * METANODE_NS_PER_MS);
    CHECK_EQ(number(c, "\"disk_total\":"), 30 * GIB);
    uint64_t room = number(c, "\"disk_free\":"), log = number(c, "\"disk_log\":");
    CHECK_TRUE(room > 29 * GIB && room < 30 * GIB);
    CHECK_TRUE(log > 0 && log < GIB);
    CHECK_TRUE(number(c, "\"disk_images\":") < 100000); /* of a tree there is a file already */
    CHECK_TRUE(!says(c, PROTO_FORMAT_TEXT, "the disk of the metadata"));
    CHECK_TRUE(says(c, PROTO_FORMAT_TEXT, " of 30 GiB free; log "));
    for (unsigned i = 0; i < 100; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "f%u", i);
        for (size_t k = 0; k < sizeof big - 1; k++) {
            big[k] = (char)(1 + rand_below(&rand, 255)); /* no engine makes it smaller */
        }
        struct proto_create_request q = rig_file(c, name, big);
        CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    }
    disk_sim_capacity(r.disk, disk_sim_used_bytes(r.disk) + 500 * MIB);
    rig_stop(&r); /* writes an image */
    rig_serve(&r);
    rig_run(&r, UINT64_C(11) * 1000 * METANODE_NS_PER_MS);
    CHECK_TRUE(number(c, "\"disk_images\":") > 400000);
    CHECK_TRUE(number(c, "\"disk_free\":") < 500 * MIB);
    CHECK_TRUE(says(c, PROTO_FORMAT_TEXT, "warning: the disk of the metadata server has "));
    CHECK_TRUE(says(c, PROTO_FORMAT_JSON, "the disk of the metadata server has "));
    rig_over(&r);
}

/* A large disk with less than a tenth left is worth a word, and no alarm. */
TEST(a_tenth_of_a_large_disk_is_said)
{
    static const struct {
        uint64_t total, room;
        const char *severity; /* NULL: nothing to say */
    } cases[] = {{100 * GIB, 10 * GIB, NULL}, {100 * GIB, 10 * GIB - 1, "note"},
                 {20 * GIB, GIB, "note"},     {20 * GIB, GIB - 1, "warning"},
                 {8 * GIB, GIB, NULL},        {GIB, GIB - 1, "warning"}};
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char words[80];
        (void)snprintf(words, sizeof words, "%s: the disk of the metadata server has",
                       cases[i].severity == NULL ? "" : cases[i].severity);
        r.m->space.now = (struct metanode_disk_space){
            .known = true, .total_bytes = cases[i].total, .free_bytes = cases[i].room};
        CHECK_EQ(says(&r.client[0], PROTO_FORMAT_TEXT, words), cases[i].severity != NULL);
    }
    r.m->space.now = (struct metanode_disk_space){.known = false};
    CHECK_TRUE(!says(&r.client[0], PROTO_FORMAT_TEXT, "disk of the metadata"));
    CHECK_TRUE(!says(&r.client[0], PROTO_FORMAT_JSON, "disk_total"));
    rig_over(&r);
}

static bool is_looking(void *ctx)
{
    return ((struct rig *)ctx)->m->space.busy;
}

TEST(a_stop_waits_for_the_disk)
{
    struct rig r;
    rig_new(&r, testing_seed());
    for (unsigned i = 0; i < 20; i++) {
        rig_serve(&r);
        rig_run(&r, i * METANODE_NS_PER_MS);
        CHECK_TRUE(rig_until(&r, is_looking, &r));
        rig_stop(&r);
    }
    rig_close(&r);
}
