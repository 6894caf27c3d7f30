/* consensus/message_test.c -- raft's messages: round trips, every truncation, every flipped bit. */
#include "consensus/message.h"

#include "base/mem.h"
#include "consensus/configuration.h"
#include "consensus/heap.h"
#include "testing/testing.h"

#include <string.h>

#define CLUSTER ((const uint8_t *)"a cluster 123456")
#define SIZE 4096u
static const struct consensus_envelope envelope = {
    .cluster = CLUSTER, .from = 1, .incarnation = 77, .sequence = 1000, .address = "here"};
#define KINDS 6u

/* One of each type; what it owns is the caller's (message_close). */
static void message_open(enum raft_message_type type, struct raft_message *m)
{
    *m = (struct raft_message){.type = type, .server_id = 2, .server_address = "there"};
    if (type == RAFT_APPEND_ENTRIES) {
        m->append_entries = (struct raft_append_entries){.version = 1,
                                                         .term = 4,
                                                         .prev_log_index = 10,
                                                         .prev_log_term = 3,
                                                         .leader_commit = 9,
                                                         .n_entries = 3};
        m->append_entries.entries = raft_calloc(3, sizeof(struct raft_entry));
        for (unsigned i = 0; i < 3; i++) {
            struct raft_entry *e = &m->append_entries.entries[i];
            *e = (struct raft_entry){.term = 4, .type = i == 1 ? RAFT_BARRIER : RAFT_COMMAND};
            e->buf.len = (size_t)8 * (i + 1);
            e->buf.base = raft_calloc(1, e->buf.len);
            memset(e->buf.base, (int)i, e->buf.len);
        }
    } else if (type == RAFT_APPEND_ENTRIES_RESULT) {
        m->append_entries_result = (struct raft_append_entries_result){
            .version = 1, .term = 4, .rejected = 7, .last_log_index = 6, .features = 1};
    } else if (type == RAFT_REQUEST_VOTE) {
        m->request_vote = (struct raft_request_vote){.version = 2,
                                                     .term = 5,
                                                     .candidate_id = 1,
                                                     .last_log_index = 8,
                                                     .last_log_term = 3,
                                                     .pre_vote = true};
    } else if (type == RAFT_REQUEST_VOTE_RESULT) {
        m->request_vote_result = (struct raft_request_vote_result){
            .version = 2, .term = 5, .vote_granted = true, .capacity = 77};
    } else if (type == RAFT_INSTALL_SNAPSHOT) {
        m->install_snapshot = (struct raft_install_snapshot){
            .version = 1, .term = 5, .last_index = 90, .last_term = 4, .conf_index = 1};
        CHECK_EQ(raft_configuration_add(&m->install_snapshot.conf, 1, "here", RAFT_VOTER), 0);
        CHECK_EQ(raft_configuration_add(&m->install_snapshot.conf, 2, "there", RAFT_SPARE), 0);
        m->install_snapshot.data.len = 16;
        m->install_snapshot.data.base = raft_calloc(1, 16);
        *(uint8_t *)m->install_snapshot.data.base = 12;
    } else {
        m->timeout_now = (struct raft_timeout_now){.version = 1, .term = 5, .last_log_index = 3};
    }
}

static void message_close(struct raft_message *m)
{
    if (m->type == RAFT_APPEND_ENTRIES) {
        for (unsigned i = 0; i < m->append_entries.n_entries; i++) {
            raft_free(m->append_entries.entries[i].buf.base);
        }
        raft_free(m->append_entries.entries);
    } else if (m->type == RAFT_INSTALL_SNAPSHOT) {
        raft_configuration_close(&m->install_snapshot.conf);
        raft_free(m->install_snapshot.data.base);
    }
}

static size_t encode(enum raft_message_type type, uint8_t *bytes)
{
    struct raft_message m;
    message_open(type, &m);
    size_t size = consensus_message_encode(&m, &envelope, NULL, 0);
    CHECK_TRUE(size <= SIZE);
    CHECK_EQ(consensus_message_encode(&m, &envelope, bytes, SIZE), size);
    message_close(&m);
    return size;
}

TEST(consensus_message_comes_back)
{
    consensus_heap_use();
    uint8_t bytes[SIZE];
    uint8_t again[SIZE];
    for (unsigned type = 1; type <= KINDS; type++) {
        size_t size = encode((enum raft_message_type)type, bytes);
        struct consensus_message m;
        CHECK_OK(consensus_message_decode(bytes, size, CLUSTER, &m));
        CHECK_TRUE(m.raft.type == type && m.raft.server_id == 1 && m.to == 2);
        CHECK_TRUE(m.incarnation == 77 && m.sequence == 1000);
        CHECK_TEXT(m.address, "here");
        m.raft.server_id = 2;
        CHECK_EQ(consensus_message_encode(&m.raft, &envelope, again, SIZE), size);
        CHECK_BYTES(bytes, again, size);
        consensus_message_free(&m);
    }
}

TEST(consensus_message_stands_every_truncation)
{
    consensus_heap_use();
    uint8_t bytes[SIZE];
    for (unsigned type = 1; type <= KINDS; type++) {
        size_t size = encode((enum raft_message_type)type, bytes);
        for (size_t len = 0; len < size; len++) {
            struct consensus_message m;
            CHECK_ERR(consensus_message_decode(bytes, len, CLUSTER, &m), ERR_corrupt);
        }
    }
}

/* Integrity is the transport's; here nothing may crash or leak, whatever comes. */
TEST(consensus_message_stands_every_flipped_bit)
{
    consensus_heap_use();
    uint8_t bytes[SIZE];
    for (unsigned type = 1; type <= KINDS; type++) {
        size_t size = encode((enum raft_message_type)type, bytes);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            struct consensus_message m;
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (consensus_message_decode(bytes, size, CLUSTER, &m) == 0) {
                consensus_message_free(&m);
            }
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        struct consensus_message whole; /* the bits are back: nothing else was changed */
        CHECK_OK(consensus_message_decode(bytes, size, CLUSTER, &whole));
        consensus_message_free(&whole);
    }
}

TEST(consensus_configuration_stands_every_truncation)
{
    consensus_heap_use();
    struct raft_configuration conf;
    struct raft_buffer buf;
    raft_configuration_init(&conf);
    CHECK_EQ(raft_configuration_add(&conf, 1, "here", RAFT_VOTER), 0);
    CHECK_EQ(raft_configuration_add(&conf, 2, "somewhere else", RAFT_STANDBY), 0);
    CHECK_EQ(raft_configuration_encode(&conf, &buf), 0);
    raft_configuration_close(&conf);
    CHECK_OK(consensus_configuration_decode(buf.base, buf.len, &conf));
    CHECK_EQ(conf.n, 2);
    CHECK_TEXT(conf.servers[1].address, "somewhere else");
    raft_configuration_close(&conf);
    size_t end = 1 + 8 + 8 + 5 + 1 + 8 + 15 + 1; /* then zeros */
    for (size_t len = 0; len < end; len++) {
        CHECK_ERR(consensus_configuration_check(buf.base, len), ERR_corrupt);
    }
    raft_free(buf.base);
}

TEST(consensus_message_is_of_one_cluster)
{
    consensus_heap_use();
    uint8_t bytes[SIZE];
    struct consensus_message m;
    size_t size = encode(RAFT_REQUEST_VOTE, bytes);
    CHECK_RC(consensus_message_decode(bytes, size, (const uint8_t *)"another cluster.", &m),
             ERR_wrong_cluster);
}
