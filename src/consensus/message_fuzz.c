/* consensus/message_fuzz.c -- arbitrary bytes as a message, an entry, a configuration, a term and a
 * snapshot file. */
#include "consensus/configuration.h"
#include "consensus/heap.h"
#include "consensus/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const uint8_t cluster[CONSENSUS_CLUSTER_BYTES];
    struct consensus_message m;
    struct consensus_entry e;
    struct consensus_operation op;
    struct consensus_term t;
    struct consensus_snapshot s;
    consensus_heap_use();
    if (consensus_message_decode(bytes, len, cluster, &m) == 0) {
        consensus_message_free(&m);
    }
    if (consensus_entry_decode(bytes, len, &e) == 0) {
        uint32_t count = 0;
        while (consensus_entry_next(&e, &op)) {
            count++;
        }
        CHECK(count == e.count);
    }
    struct raft_configuration configuration;
    if (consensus_configuration_decode(bytes, len, &configuration) == 0) {
        CHECK(configuration.n <= CONSENSUS_SERVERS_MAX);
        raft_configuration_close(&configuration);
    }
    if (consensus_term_decode(bytes, len, &t) == 0) {
        uint8_t again[CONSENSUS_TERM_BYTES];
        consensus_term_encode(&t, again);
    }
    if (consensus_snapshot_decode(bytes, len, &s) == 0) {
        CHECK(consensus_snapshot_size(&s) == len);
    }
    return 0;
}
