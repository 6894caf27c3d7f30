/*
 * datanode/chaos_test.c -- processes die, machines lose power, links break, clocks stop; the rows
 * follow by cluster_chain_step(). One client writes, reads and syncs a few chunks. Checked: I1
 * (what is read is never older than what was acknowledged or read before, unless loss_gen rose;
 * then not older than what was synced), I2, I3 (at the end all members hold the same), I6, I11.
 */
#include "datanode/decide.h"

#include "base/rand.h"
#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

#define MEMBERS 3u
#define CHUNKS 3u
#define LOG 2u /* of this one: records are appended; the others are overwritten whole */
#define RECORD 64u
#define TICK_NS UINT64_C(10000000)
#define T_NS (RIG_LEASE_MS * 1000000)

struct model { /* of one chunk: contents are numbered as they were written */
    unsigned issued, low, synced;
    uint32_t unsynced_gen; /* loss_gen of the oldest unsynced write */
    bool unsynced;
};
struct writer { /* of one chunk: one write at a time, until its outcome is known */
    struct rig_call *call;
    struct rig_io io;
    uint64_t next_ns;
    uint32_t gen;
    unsigned attempts;
    bool open;
};
struct fate {          /* of one worker */
    uint64_t until_ns; /* of what is done to it */
    enum { FATE_NONE, FATE_DOWN, FATE_PAUSED, FATE_CUT, FATE_SPLIT } kind;
    unsigned registers;
    bool present, intact, gone, suspected;
    uint64_t gone_ns;
    uint32_t must_know;
};
struct chaos {
    struct rig rig;
    struct rand rand;
    struct fate fate[MEMBERS + 1];
    struct model model[CHUNKS];
    struct writer writer[CHUNKS];
    uint64_t next_tick_ns, next_trouble_ns, dark_since_ns, links_until_ns;
    uint32_t loss_gen;
    bool calm;
    unsigned acked, troubles;
};

/* ---- The metadata leader ---- */

static bool active(const struct chaos *x, uint32_t target)
{
    const struct cluster_row *row = &x->rig.row[1];
    size_t i = cluster_row_find(row, target);
    return row->member[i].state == PROTO_MEMBER_SERVING ||
           row->member[i].state == PROTO_MEMBER_SYNCING;
}

/* R6: its predecessor cannot reach it. Without REVOKE its lease has to run out. */
static bool suspected(const struct chaos *x, uint32_t target)
{
    bool named = false;
    for (unsigned host = 1; host <= MEMBERS; host++) {
        named = named ||
                (x->fate[host].present && x->rig.target[host].suspect == target && host != target);
    }
    return named && active(x, target) && cluster_row_serving_count(&x->rig.row[1]) > 1;
}

static void facts_of(struct chaos *x, uint32_t target, uint64_t now_ns)
{
    struct fate *f = &x->fate[target];
    struct rig_target *t = &x->rig.target[target];
    if (t->registers != f->registers) { /* a new incarnation: the old one is gone */
        f->registers = t->registers;
        f->gone = true;
        f->gone_ns = now_ns;
        f->present = true;
        f->intact = !t->lossy;
        t->heard_ns = now_ns;
    }
    if (now_ns > t->granted_ns + T_NS && now_ns > t->heard_ns + T_NS && f->present) {
        f->present = false;
        f->gone_ns = f->gone ? f->gone_ns : now_ns;
        f->gone = true;
    } else if (!f->present && now_ns < t->heard_ns + T_NS && f->registers > 0) {
        f->present = true; /* was cut off */
        f->intact = !t->lossy || f->intact;
    }
    f->gone = f->gone && !(f->present && !active(x, target)); /* it is heard again */
    f->suspected = suspected(x, target);
    if (f->suspected && !f->gone && now_ns > t->granted_ns + T_NS) {
        f->gone = true;
        f->gone_ns = now_ns;
    }
    t->leased = !(f->gone && active(x, target)) && t->known[1] >= f->must_know && !f->suspected;
}

static void publish(struct chaos *x, const struct cluster_row *next, uint64_t now_ns)
{
    struct rig *r = &x->rig;
    const struct cluster_row old = r->row[1];
    bool dark = cluster_row_serving_count(next) == 0;
    if (dark && cluster_row_serving_count(&old) > 0) {
        x->dark_since_ns = now_ns;
    }
    for (size_t i = 0; i < next->count; i++) {
        uint32_t target = next->member[i].target;
        enum proto_member_state before = old.member[cluster_row_find(&old, target)].state;
        enum proto_member_state now = next->member[i].state;
        struct fate *f = &x->fate[target];
        if (before != now) {
            f->gone = f->gone && !f->present;
            f->intact = f->intact || now == PROTO_MEMBER_SERVING;
            r->target[target].synced[1] = 0;
            f->must_know =
                now == PROTO_MEMBER_OFFLINE || now == PROTO_MEMBER_LAST_SERVING ? next->epoch : 0;
        }
    }
    r->row[1] = *next;
    if (next->loss_gen != x->loss_gen) {
        x->loss_gen = next->loss_gen;
        for (unsigned k = 0; k < CHUNKS; k++) {
            x->model[k].low = x->model[k].synced;
        }
    }
    rig_in(r->meta.loop, rig_push_rows, r);
}

static void lead(struct chaos *x, uint64_t now_ns)
{
    struct rig *r = &x->rig;
    struct cluster_fact fact[CLUSTER_MEMBERS_MAX] = {0};
    struct cluster_row next;
    const struct cluster_chain_times times = {
        .now_ns = now_ns, .dark_since_ns = x->dark_since_ns, .dark_wait_ns = 2 * T_NS};
    for (size_t i = 0; i < r->row[1].count; i++) {
        uint32_t target = r->row[1].member[i].target;
        facts_of(x, target, now_ns);
        const struct fate *f = &x->fate[target];
        const struct rig_target *t = &r->target[target];
        fact[i] = (struct cluster_fact){.gone = f->gone,
                                        .gone_ns = f->gone_ns,
                                        .heard_ns = t->heard_ns,
                                        .present = f->present,
                                        .intact = f->intact,
                                        .known_epoch = t->known[1],
                                        .synced_epoch = t->synced[1]};
        if (t->report[1] == PROTO_REPORT_GONE && !f->gone) {
            x->fate[target].gone = true;
            x->fate[target].gone_ns = now_ns;
        }
    }
    if (cluster_chain_step(&r->row[1], fact, &times, &next)) {
        publish(x, &next, now_ns);
    }
}

/* ---- Trouble ---- */

static void fate_ends(struct chaos *x, unsigned host)
{
    struct fate *f = &x->fate[host];
    if (f->kind == FATE_DOWN) {
        rig_start(&x->rig, host);
        x->rig.target[host].leased = false; /* R4: not before lead() has seen that it is new */
    } else if (f->kind == FATE_PAUSED) {
        loop_sim_pause(x->rig.target[host].process.loop, false);
    } else if (f->kind == FATE_CUT) {
        net_sim_cut(x->rig.net, host, 0, false);
        net_sim_cut(x->rig.net, 0, host, false);
    } else if (f->kind == FATE_SPLIT) {
        net_sim_cut(x->rig.net, host, 1 + host % MEMBERS, false);
        net_sim_cut(x->rig.net, 1 + host % MEMBERS, host, false);
    }
    f->kind = FATE_NONE;
}

static unsigned disturbed(const struct chaos *x)
{
    unsigned count = 0;
    for (unsigned host = 1; host <= MEMBERS; host++) {
        count += x->fate[host].kind != FATE_NONE ? 1U : 0U;
    }
    return count;
}

/* Case 16: power fails at all of them, in no order, and comes back at one after the other. */
static void rack_power_cut(struct chaos *x, uint64_t now_ns)
{
    x->troubles++;
    for (unsigned host = 1; host <= MEMBERS; host++) {
        struct fate *f = &x->fate[host];
        if (f->kind != FATE_NONE && f->kind != FATE_DOWN) {
            fate_ends(x, host);
        }
        disk_sim_crash_mode(x->rig.disk[host],
                            rand_below(&x->rand, 2) == 0 ? DISK_SIM_LOSE_ALL : DISK_SIM_RANDOM);
        if (f->kind == FATE_NONE) {
            f->kind = FATE_DOWN;
            rig_crash(&x->rig, host);
        } else {
            disk_sim_crash(x->rig.disk[host]);
            loop_sim_reboot(x->rig.world, host);
        }
        f->until_ns = now_ns + RIG_SECOND / 10 + rand_below(&x->rand, 8 * RIG_SECOND);
    }
}

static void trouble(struct chaos *x, uint64_t now_ns)
{
    struct rig *r = &x->rig;
    unsigned host = 1 + (unsigned)rand_below(&x->rand, MEMBERS);
    struct fate *f = &x->fate[host];
    uint64_t dice = rand_below(&x->rand, 100);
    x->next_trouble_ns = now_ns + rand_below(&x->rand, 3 * RIG_SECOND);
    if (dice >= 97) {
        rack_power_cut(x, now_ns);
        return;
    }
    if (f->kind != FATE_NONE || (disturbed(x) >= 2 && dice < 90)) {
        return;
    }
    x->troubles++;
    f->until_ns = now_ns + RIG_SECOND / 10 + rand_below(&x->rand, 5 * RIG_SECOND);
    if (dice < 30) {
        f->kind = FATE_DOWN;
        rig_kill(r, host);
    } else if (dice < 45) {
        f->kind = FATE_DOWN;
        rig_crash(r, host);
    } else if (dice < 60) {
        f->kind = FATE_PAUSED;
        loop_sim_pause(r->target[host].process.loop, true);
    } else if (dice < 70) { /* case 21 */
        f->kind = FATE_SPLIT;
        net_sim_cut(r->net, host, 1 + host % MEMBERS, true);
        net_sim_cut(r->net, 1 + host % MEMBERS, host, true);
    } else if (dice < 80) {
        f->kind = FATE_CUT;
        net_sim_cut(r->net, host, 0, true);
        net_sim_cut(r->net, 0, host, true);
    } else {
        unsigned other = 1 + host % MEMBERS;
        net_sim_reset(r->net, host, other);
        net_sim_faults(r->net, 500, 500);
        x->links_until_ns = now_ns + RIG_SECOND;
    }
}

/* ---- Writers ---- */

static unsigned head_of(const struct chaos *x)
{
    const struct cluster_row *row = &x->rig.row[1];
    return cluster_row_serving_count(row) == 0 ? 1 : row->member[0].target;
}

static bool final(int rc)
{
    return rc == 0 || rc == -ERR_unknown_outcome || rc == -ERR_no_space;
}

static void write_send(struct chaos *x, struct writer *w)
{
    w->call = mem_zalloc(sizeof *w->call);
    w->io.host = head_of(x);
    w->gen = x->rig.row[1].loss_gen;
    w->attempts++;
    rig_write_begin(&x->rig, w->call, &w->io);
    w->io.retry = true;
}

static void write_over(struct chaos *x, struct writer *w, struct model *m, uint64_t now_ns)
{
    int rc = w->call->rc;
    rig_call_end(w->call);
    mem_free(w->call);
    w->call = NULL;
    CHECK_TRUE(rc != -ERR_unknown_outcome && rc != -ERR_no_space);
    w->next_ns = now_ns + RIG_SECOND / 100 + rand_below(&x->rand, RIG_SECOND / 10);
    if (!final(rc)) {
        return;
    }
    w->open = false;
    if (w->gen == x->rig.row[1].loss_gen) {
        m->low = m->issued;
        m->unsynced_gen = m->unsynced ? m->unsynced_gen : w->gen;
        m->unsynced = true;
        x->acked++;
    }
}

static void writers(struct chaos *x, uint64_t now_ns)
{
    for (unsigned k = 0; k < CHUNKS; k++) {
        struct writer *w = &x->writer[k];
        struct model *m = &x->model[k];
        if (w->call != NULL && w->call->done) {
            write_over(x, w, m, now_ns);
        }
        if (w->call != NULL || now_ns < w->next_ns) {
            continue;
        }
        if (!w->open && (x->calm || m->issued >= 250)) {
            continue;
        }
        if (!w->open) {
            unsigned number = ++m->issued;
            w->open = true;
            w->io = (struct rig_io){
                .chain = 1, .data_id = 100, .index = k, .length = 4096, .seq = number};
            w->io.fill = (uint8_t)number;
            if (k == LOG) {
                w->io.kind = PROTO_WRITE_APPEND;
                w->io.length = RECORD;
            }
        }
        write_send(x, w);
    }
}

static bool chaos_step(struct chaos *x)
{
    uint64_t now_ns = loop_sim_now_ns(x->rig.world);
    if (now_ns >= x->next_tick_ns) {
        x->next_tick_ns = now_ns + TICK_NS;
        lead(x, now_ns);
        writers(x, now_ns);
        for (unsigned host = 1; host <= MEMBERS; host++) {
            if (x->fate[host].kind != FATE_NONE && (x->calm || now_ns >= x->fate[host].until_ns)) {
                fate_ends(x, host);
            }
        }
        if (x->calm || now_ns >= x->links_until_ns) {
            net_sim_faults(x->rig.net, 0, 0);
        }
        if (!x->calm && now_ns >= x->next_trouble_ns) {
            trouble(x, now_ns);
        }
    }
    return loop_sim_step(x->rig.world);
}

static void chaos_for_ms(struct chaos *x, uint64_t ms)
{
    uint64_t end = loop_sim_now_ns(x->rig.world) + ms * 1000000;
    while (loop_sim_now_ns(x->rig.world) < end && chaos_step(x)) {
    }
}

/* ---- The client ---- */

static void ask(struct chaos *x, struct rig_call *c, struct rig_io *io,
                void (*begin)(struct rig *r, struct rig_call *c, const struct rig_io *io))
{
    uint64_t end = loop_sim_now_ns(x->rig.world) + 8 * RIG_SECOND;
    begin(&x->rig, c, io);
    c->call.timeout_ms = 3000;
    while (!c->done && chaos_step(x)) {
        CHECK_TRUE(loop_sim_now_ns(x->rig.world) < end + 60 * RIG_SECOND);
    }
}

/* The number of the content; for the log that of its last record. Each append happened once, in
 * order; only a loss makes gaps (I7). */
static unsigned number_of(const struct chaos *x, unsigned k, const struct rig_call *c)
{
    unsigned number = 0;
    for (size_t at = 0; at < c->data_len && (k == LOG || at == 0); at += RECORD) {
        CHECK_TRUE(c->data[at] > number);
        CHECK_TRUE(k != LOG || c->data[at] == number + 1 || x->loss_gen > 0);
        number = c->data[at];
    }
    return number;
}

static int one_read(struct chaos *x, unsigned k, unsigned host, struct chunk_identity *ret)
{
    struct model *m = &x->model[k];
    struct rig_io io = {.chain = 1, .data_id = 100, .index = k, .length = 4096, .host = host};
    struct rig_call *c = mem_zalloc(sizeof *c);
    io.length = k == LOG ? 300 * RECORD : 4096;
    io.epoch = x->rig.target[host].known[1]; /* its own, however old: R7, R8 */
    unsigned low = m->low;
    uint32_t gen = x->rig.row[1].loss_gen;
    ask(x, c, &io, rig_read_begin);
    int rc = c->rc;
    if (rc == 0 && gen == x->rig.row[1].loss_gen) {
        unsigned number = number_of(x, k, c);
        CHECK_TRUE(c->data_good);
        CHECK_TRUE(number >= low); /* I1 */
        CHECK_TRUE(number <= m->issued);
        m->low = number > m->low ? number : m->low;
        *ret = c->identity;
    } else if (rc == 0) {
        rc = -EAGAIN;
    }
    rig_call_end(c);
    mem_free(c);
    return rc;
}

static void one_sync(struct chaos *x, unsigned k)
{
    struct model *m = &x->model[k];
    unsigned low = m->low;
    uint32_t oldest = m->unsynced ? m->unsynced_gen : x->rig.row[1].loss_gen;
    struct rig_io io = {.chain = 1, .data_id = 100, .index = k, .loss_gen = oldest};
    struct rig_call *c = mem_zalloc(sizeof *c);
    io.host = head_of(x);
    uint32_t gen = x->rig.row[1].loss_gen;
    ask(x, c, &io, rig_sync_begin);
    if (c->rc == 0 && gen == x->rig.row[1].loss_gen) {
        CHECK_EQ(oldest, gen); /* else -ERR_lost */
        m->synced = low > m->synced ? low : m->synced;
        m->unsynced = false;
    }
    m->unsynced = m->unsynced && c->rc != -ERR_lost;
    mem_free(c);
}

/* ---- All of it ---- */

static bool all_serve(const struct chaos *x)
{
    const struct cluster_row *row = &x->rig.row[1];
    bool all = cluster_row_serving_count(row) == MEMBERS;
    for (unsigned k = 0; k < CHUNKS; k++) {
        all = all && !x->writer[k].open;
    }
    for (unsigned host = 1; host <= MEMBERS; host++) {
        all = all && x->rig.target[host].known[1] == row->epoch && x->rig.target[host].leased;
    }
    return all;
}

static void chaos_end(struct chaos *x)
{
    x->calm = true;
    net_sim_heal(x->rig.net);
    uint64_t end = loop_sim_now_ns(x->rig.world) + 30 * T_NS;
    while (!all_serve(x) && chaos_step(x)) {
        CHECK_TRUE(loop_sim_now_ns(x->rig.world) < end); /* I11 */
    }
    chaos_for_ms(x, 1000);
    for (unsigned k = 0; k < CHUNKS; k++) {
        struct chunk_identity id[MEMBERS + 1] = {0};
        for (unsigned host = 1; host <= MEMBERS; host++) {
            int rc;
            do {
                rc = one_read(x, k, host, &id[host]);
            } while (rc != 0);
            CHECK_TRUE(chunk_identity_equal(id[1], id[host])); /* I3 */
        }
    }
}

static bool chaos(uint64_t seed, unsigned rounds)
{
    struct chaos *x = mem_zalloc(sizeof *x);
    rand_seed(&x->rand, seed);
    rig_chain(&x->rig, MEMBERS, DATANODE_ENGINE_FILE, seed);
    for (unsigned host = 1; host <= MEMBERS; host++) {
        x->fate[host] = (struct fate){
            .present = true, .intact = true, .registers = x->rig.target[host].registers};
    }
    for (unsigned i = 0; i < rounds; i++) {
        struct chunk_identity id;
        unsigned k = (unsigned)rand_below(&x->rand, CHUNKS);
        if (rand_below(&x->rand, 10) == 0) {
            one_sync(x, k);
        } else {
            (void)one_read(x, k, 1 + (unsigned)rand_below(&x->rand, MEMBERS), &id);
        }
        chaos_for_ms(x, rand_below(&x->rand, 30));
    }
    chaos_end(x);
    CHECK_TRUE(x->acked > 20);
    CHECK_TRUE(x->troubles > 0);
    rig_close(&x->rig);
    mem_free(x);
    return true;
}

TEST(chaos_keeps_what_was_promised)
{
    for (uint64_t i = 0; i < 3; i++) {
        CHECK_TRUE(chaos(testing_seed() * 1000 + i, 600));
    }
}
