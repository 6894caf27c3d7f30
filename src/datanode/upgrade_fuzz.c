/*
 * datanode/upgrade_fuzz.c -- any text as what a master was left by the program before it, in a
 * process that has the sockets and workers of that program. It starts, or says why it does not; and
 * if it has started, it ends when it is told to.
 */
#include "datanode/rig_master_priv.h"

#include "testing/replay.h"

#define FUZZ_TARGETS 2u
#define FUZZ_TEXT 4096u

static void fuzz_hand_over(void *ctx)
{
    struct rig *r = ctx;
    CHECK(datanode_master_hand_over(r->master, r->legacy) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct datanode_master_legacy legacy;
    static struct rig r;
    char text[FUZZ_TEXT + 1] = {0};
    if (size > 0) {
        memcpy(text, data, base_min(size, FUZZ_TEXT));
    }
    rig_open(&r, SERVES, FUZZ_TARGETS);
    r.legacy = &legacy;
    start_all(&r, false);
    loop_sim_enter(r.data.loop, fuzz_hand_over, &r);
    loop_sim_enter(r.data.loop, free_inside, &r);
    r.opt.inherited = text;
    loop_sim_enter(r.data.loop, master_inside, &r);
    r.opt.inherited = NULL;
    if (r.start_rc == 0) {
        for_ms(&r, 3000);
        stop_master(&r, 1000);
        UNTIL(&r, r.stops == 1);
    } else {
        CHECK(r.master == NULL && r.start_error.text[0] != 0);
    }
    rig_close(&r);
    return 0;
}
