/*
 * metanode/server_fuzz.c -- what clients, administrators and targets may send to a metadata server,
 * behind a handshake that was good. Four bytes choose each message: who, what, and the seed of its
 * contents (rig_storm_priv.h). The server must neither crash nor leak, still serve, and have
 * written a log that means the same to another server.
 */
#include "metanode/rig_storm_priv.h"
#include "testing/replay.h"

#define FUZZ_MESSAGES 48u
#define FUZZ_PAUSE 224u /* of who: time passes before it */

const unsigned testing_replay_generated = 8;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t count = 0;
    const struct proto_message *all = proto_messages(&count);
    struct wire_reader r = wire_reader_over(data, size);
    struct storm *s = storm_new(1);
    for (unsigned i = 0; i < FUZZ_MESSAGES && r.left >= 4; i++) {
        uint8_t who = wire_read_u8(&r);
        const struct proto_message *m = &all[wire_read_u8(&r) % count];
        rand_seed(&s->rand, wire_read_u16(&r));
        if (who >= FUZZ_PAUSE) {
            rig_run(&s->rig, RIG_SECOND);
        }
        if (m->reply != NULL && !storm_is_left_out(m->opcode)) {
            storm_send(s, who % STORM_KINDS, m);
        }
    }
    storm_over(s);
    return 0;
}
