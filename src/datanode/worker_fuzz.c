/*
 * What clients, members and metadata servers may send to the port of a target, behind a handshake
 * that was good. Six bytes choose each message: rig_storm_priv.h. The worker must neither crash nor
 * leak, and its chain still serve.
 */
#include "datanode/rig_storm_priv.h"
#include "testing/replay.h"

#define FUZZ_MESSAGES 64u

const unsigned testing_replay_generated = 8;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct storm *s = storm_new(DATANODE_ENGINE_RAM, 1);
    struct wire_reader r = wire_reader_over(data, size);
    for (unsigned i = 0; i < FUZZ_MESSAGES && r.left >= 6; i++) {
        struct storm_choice x = {.opcode = wire_read_u8(&r),
                                 .role = wire_read_u8(&r),
                                 .bend = wire_read_u8(&r),
                                 .length = wire_read_u8(&r),
                                 .seed = wire_read_u16(&r)};
        storm_send(s, 1 + i % 2, &x);
        if ((x.bend & 64) != 0) {
            rig_for_ms(&s->rig, 5);
        }
    }
    storm_over(s);
    (void)storm_free(s);
    return 0;
}
