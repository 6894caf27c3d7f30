/*
 * sim/faults.c -- see faults.h.
 *
 * Unsynced data may be lost for good only when a machine loses power, or a store fails, while
 * another member may lack the newest data: it is down, not complete yet, or cut off. That is
 * counted, because the model allows it then and only then. (A process that is killed loses nothing:
 * what it wrote is in the machine's page cache.)
 */
#include "faults.h"

#include "base/rand.h"
#include "chunk/read.h"

#define WATCH_NS (50 * WORLD_MS)
#define CUT_MAX_NS (20 * WORLD_S)     /* clients that are silent longer lose their session */
#define ROT_MAX 4u                    /* chunks at a time */
#define FULL_NOTICED_NS (5 * WORLD_S) /* members tell each other that there is room again */
#define DRIFT_PPM 4000                /* two machines differ by less than one in a hundred */

static uint64_t in_ms(const struct world *w, uint64_t ms)
{
    return world_now_ns(w) + ms * WORLD_MS;
}

static void heal_network(struct faults *f);

/* What is not running and need not be down any more starts. */
static void watch(struct loop_sim_event *ev)
{
    struct faults *f = container_of(ev, struct faults, watch);
    struct world *w = f->w;
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        bool due = !w->node[i].unused && world_now_ns(w) >= f->node[i].down_until_ns;
        if (due && !world_is_running(w, i)) {
            world_start(w, i);
        }
    }
    if (w->cut && world_now_ns(w) >= f->cut_until_ns) {
        heal_network(f);
    }
    if (w->rots > 0 && !world_is_healthy(w, w->rotten)) {
        w->rots_alone++;
    }
    loop_sim_at(w->sim, &f->watch, world_now_ns(w) + WATCH_NS);
}

/* ---- Processes and machines ---- */

enum end { END_KILL, END_WORKER, END_STOP, END_POWER };

static void cut_power(struct faults *f, unsigned node)
{
    struct world *w = f->w;
    bool is_target = node >= WORLD_TARGET(0) && node < WORLD_CLIENT(0);
    bool rack = is_target && w->racks && rand_chance(w->rand, 1, 3);
    uint32_t nodes = rack ? world_rack_of(w, node) : world_machine_of(w, node);
    f->power_cuts++;
    if (is_target) {
        world_may_lose(w, nodes);
    }
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        uint64_t *until = &f->node[i].down_until_ns;
        if ((nodes >> i & 1) != 0 && !w->node[i].absent && !w->node[i].unused) {
            *until = base_max(*until, f->node[node].down_until_ns);
        }
    }
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        if ((nodes >> i & 1) != 0) {
            world_power_cut(w, i);
            nodes &= ~world_machine_of(w, i);
        }
    }
}

static void end_node(struct faults *f, unsigned node, enum end how)
{
    struct world *w = f->w;
    if (!world_is_running(w, node)) {
        return;
    }
    /* Mostly soon; sometimes after its lease has run out. */
    uint64_t longest = rand_chance(w->rand, 1, 3) ? 4 * WORLD_LEASE_MS : WORLD_LEASE_MS / 2;
    f->node[node].down_until_ns = in_ms(w, world_between(w, 10, longest));
    f->kills += how == END_POWER ? 0 : 1;
    switch (how) {
    case END_KILL:
        world_kill(w, node);
        break;
    case END_WORKER:
        world_kill_worker(w, node);
        break;
    case END_STOP:
        world_stop(w, node);
        break;
    case END_POWER:
        cut_power(f, node);
    }
}

static void end_meta(struct faults *f)
{
    static const enum end how[] = {END_KILL, END_KILL, END_POWER, END_POWER, END_STOP};
    end_node(f, WORLD_META, how[rand_below(f->w->rand, ARRAY_COUNT(how))]);
}

static void end_target(struct faults *f, unsigned node)
{
    static const enum end how[] = {END_WORKER, END_WORKER, END_WORKER, END_KILL,
                                   END_STOP,   END_POWER,  END_POWER};
    size_t count = ARRAY_COUNT(how) - (f->only_names ? 2 : 0); /* without power cuts */
    end_node(f, node, how[rand_below(f->w->rand, count)]);
}

/* ---- The network ---- */

static void cut_network(struct faults *f)
{
    struct world *w = f->w;
    const struct world_node *from = &w->node[rand_below(w->rand, WORLD_HOSTS)];
    const struct world_node *to = &w->node[rand_below(w->rand, WORLD_HOSTS)];
    unsigned a = from->host, b = to->host;
    if (a == b || from->unused || to->unused) {
        return;
    }
    if (rand_chance(w->rand, 1, 2)) {
        net_sim_reset(w->net, a, b);
        return;
    }
    f->partitions++;
    f->cut_until_ns = w->cut ? f->cut_until_ns : world_now_ns(w) + CUT_MAX_NS;
    w->cut = true;
    net_sim_cut(w->net, a, b, true);
    if (rand_chance(w->rand, 2, 3)) { /* else one direction only */
        net_sim_cut(w->net, b, a, true);
    }
}

static void disturb_network(struct faults *f)
{
    struct rand *r = f->w->rand;
    uint64_t times = f->only_names ? 16 : 1;
    net_sim_faults(f->w->net, (uint32_t)rand_below(r, 500 * times),
                   (uint32_t)rand_below(r, 2000 * times));
}

static void heal_network(struct faults *f)
{
    f->w->cut = false;
    net_sim_heal(f->w->net);
}

/* ---- Disks ---- */

static void disk_full(struct faults *f, unsigned node)
{
    struct world_node *n = &f->w->node[node];
    uint64_t room = world_between(f->w, 0, 64) * 4096;
    f->disks++;
    f->w->full_disks++;
    f->w->full_until_ns = UINT64_MAX;
    n->disk_full = true;
    n->disk_trouble = true;
    disk_sim_capacity(n->disk, disk_sim_used_bytes(n->disk) + room + 1);
    world_say(f->w, "disk full", n->name);
}

/* Bytes of that node: are there chains that nobody else has? */
static void has_rotted(struct faults *f, unsigned node)
{
    bool alone = world_have_all_of_a_chain(f->w, 1u << node);
    f->w->rots_alone += alone ? 1 : 0;
}

static void disk_error(struct faults *f, unsigned node)
{
    static const enum disk_op ops[] = {DISK_READ, DISK_WRITE, DISK_SYNC, DISK_SYNC_ALL};
    struct world_node *n = &f->w->node[node];
    enum disk_op op = ops[rand_below(f->w->rand, ARRAY_COUNT(ops))];
    if (op == DISK_READ && node != WORLD_META) { /* to its readers it is as if bytes were bad */
        if (!f->rots_early || !world_may_rot(f->w, node)) {
            return;
        }
        f->w->rots++;
        f->w->rotten_unknown = true;
        has_rotted(f, node);
    }
    f->disks++;
    n->disk_trouble = true;
    disk_sim_fail(n->disk, op, NULL, world_between(f->w, 1, 5), 1, -EIO);
    world_say(f->w, "disk error", n->name);
}

static void disk_slow(struct faults *f, unsigned node)
{
    f->disks++;
    disk_sim_slow(f->w->node[node].disk, world_between(f->w, 1, 100) * WORLD_MS);
    world_say(f->w, "disk slow", f->w->node[node].name);
}

/* One byte of a chunk, in the page cache and on the medium. Inside the worker's process. */
static void rot_one(struct faults_rot *r)
{
    struct world *w = r->faults->w;
    struct chunk_store *s = datanode_worker_store(w->node[r->node].process->worker);
    struct chunk_store_info all;
    struct chunk_info info;
    struct chunk_key from = {0};
    chunk_store_info(s, &all);
    uint64_t at = all.chunk_count == 0 ? 0 : rand_below(w->rand, all.chunk_count);
    int rc = chunk_store_next(s, from, &info);
    for (uint64_t i = 0; i < at && rc == 0; i++) {
        from = info.key;
        from.index++;
        rc = chunk_store_next(s, from, &info);
    }
    struct chunk_pin pin = {.key = info.key, .which = CHUNK_COMMITTED, .length = CHUNK_LENGTH_MAX};
    if (rc < 0 || info.length == 0 || chunk_store_pin(s, &pin) < 0) {
        return;
    }
    struct chunk_piece piece;
    unsigned count = 0;
    chunk_pin_pieces(s, &pin, (uint32_t)rand_below(w->rand, pin.length), &piece, 1, &count);
    if (count == 1 && piece.file != NULL) {
        uint64_t offset = piece.offset + rand_below(w->rand, piece.len);
        uint8_t flip = (uint8_t)world_between(w, 1, 255);
        rc = disk_sim_corrupt_file(piece.file, offset, flip);
        r->count += rc == 0 ? 1 : 0;
        w->rotten_unknown = w->rotten_unknown || w->rotten_count == WORLD_ROTTEN_MAX;
        if (!w->rotten_unknown) {
            w->rotten_key[w->rotten_count++] = info.key;
        }
    }
    chunk_store_unpin(s, &pin);
}

static void rot_inside(void *context)
{
    struct faults_rot *r = context;
    uint64_t count = world_between(r->faults->w, 1, ROT_MAX);
    for (uint64_t i = 0; i < count; i++) {
        rot_one(r);
    }
}

static void rot_at(struct faults *f, unsigned node)
{
    struct world *w = f->w;
    struct world_process *p = w->node[node].process;
    if (p == NULL || p->worker == NULL || p->stopping || !world_may_rot(w, node)) {
        return;
    }
    f->rot = (struct faults_rot){.faults = f, .node = node};
    loop_sim_enter(p->loop, rot_inside, &f->rot);
    w->rots += f->rot.count;
    has_rotted(f, node);
    f->disks++;
    world_say(w, "bytes go bad", w->node[node].name);
}

void faults_rot(struct faults *f)
{
    if (!f->rots_early) {
        rot_at(f, WORLD_TARGET((unsigned)rand_below(f->w->rand, f->w->targets)));
    }
}

static void disk_fault(struct faults *f, void (*what)(struct faults *f, unsigned node))
{
    struct world *w = f->w;
    unsigned node = rand_chance(w->rand, 1, 3)
                        ? WORLD_META
                        : WORLD_TARGET((unsigned)rand_below(w->rand, w->targets));
    struct faults_node *fn = &f->node[node];
    if (fn->busy || w->node[node].absent) {
        return; /* one thing at a time */
    }
    fn->busy = true;
    what(f, node);
    loop_sim_at(w->sim, &fn->heal, in_ms(w, world_between(w, 100, 5000)));
}

/* ---- Clocks, standing still ---- */

static void clock_fault(struct faults *f)
{
    struct world *w = f->w;
    unsigned host = (unsigned)world_between(w, 1, WORLD_HOSTS);
    int64_t jump = (int64_t)world_between(w, 0, 7200) - 3600;
    int32_t drift = (int32_t)world_between(w, 0, UINT64_C(2) * DRIFT_PPM) - DRIFT_PPM;
    f->others++;
    loop_sim_clock(w->sim, host, jump * (int64_t)WORLD_S, drift);
}

static void stand_still(struct faults *f)
{
    struct world *w = f->w;
    unsigned node = (unsigned)rand_below(w->rand, WORLD_HOSTS);
    struct faults_node *fn = &f->node[node];
    struct world_node *n = &w->node[node];
    uint64_t longest = rand_chance(w->rand, 1, 2) ? 4 * WORLD_LEASE_MS : WORLD_LEASE_MS / 2;
    uint64_t until = in_ms(w, world_between(w, 10, longest));
    if (fn->busy || n->process == NULL) {
        return;
    }
    fn->busy = true;
    f->others++;
    fn->stopped[0] = n->process->loop;
    if (n->master != NULL && rand_chance(w->rand, 1, 3)) { /* the whole machine */
        fn->stopped[1] = n->master->loop;
    }
    for (unsigned i = 0; i < ARRAY_COUNT(fn->stopped); i++) {
        if (fn->stopped[i] != NULL) {
            loop_sim_pause(fn->stopped[i], true);
        }
    }
    n->unsteady_until_ns = until + UINT64_C(2) * WORLD_LEASE_MS * WORLD_MS;
    world_say(w, "stands still", n->name);
    loop_sim_at(w->sim, &fn->heal, until);
}

/* ---- All of it ---- */

static void heal_node(struct faults_node *fn)
{
    struct world *w = fn->faults->w;
    struct world_node *n = &w->node[fn->node];
    if (!fn->busy) {
        return;
    }
    fn->busy = false;
    for (unsigned i = 0; i < ARRAY_COUNT(fn->stopped); i++) {
        if (fn->stopped[i] != NULL) {
            loop_sim_pause(fn->stopped[i], false);
            fn->stopped[i] = NULL;
        }
    }
    if (n->disk_full) {
        n->disk_full = false;
        w->full_disks--;
        w->full_until_ns = w->full_disks > 0 ? UINT64_MAX : world_now_ns(w) + FULL_NOTICED_NS;
    }
    disk_sim_heal(n->disk);
    disk_sim_slow(n->disk, 0);
    disk_sim_capacity(n->disk, 0);
    world_say(w, "healed", n->name);
}

static void heal_due(struct loop_sim_event *ev)
{
    heal_node(container_of(ev, struct faults_node, heal));
}

enum faults_kind {
    FAULT_META,
    FAULT_TARGET,
    FAULT_CUT,
    FAULT_HEAL,
    FAULT_NETWORK,
    FAULT_CLOCK,
    FAULT_STILL,
    FAULT_DISK_FULL,
    FAULT_DISK_ERROR,
    FAULT_DISK_SLOW,
    FAULT_ROT,
    FAULT_CLIENT,
    FAULT_COUNT
};
static const uint8_t all_weight[FAULT_COUNT] = {
    [FAULT_META] = 4,       [FAULT_TARGET] = 6,    [FAULT_CUT] = 2,   [FAULT_HEAL] = 2,
    [FAULT_NETWORK] = 2,    [FAULT_CLOCK] = 1,     [FAULT_STILL] = 2, [FAULT_DISK_FULL] = 2,
    [FAULT_DISK_ERROR] = 2, [FAULT_DISK_SLOW] = 1, [FAULT_ROT] = 2,   [FAULT_CLIENT] = 2};

/* When names are all that matters. */
static const uint8_t names_weight[FAULT_COUNT] = {
    [FAULT_META] = 6,    [FAULT_TARGET] = 1, [FAULT_CUT] = 6,   [FAULT_HEAL] = 4,
    [FAULT_NETWORK] = 4, [FAULT_CLOCK] = 2,  [FAULT_STILL] = 3, [FAULT_CLIENT] = 1};

static enum faults_kind choose(struct faults *f)
{
    const uint8_t *weight = f->only_names ? names_weight : all_weight;
    uint64_t sum = 0;
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        sum += weight[i];
    }
    uint64_t at = rand_below(f->w->rand, sum);
    unsigned fault = 0;
    while (at >= weight[fault]) {
        at -= weight[fault++];
    }
    return (enum faults_kind)fault;
}

static void happen(struct loop_sim_event *ev)
{
    struct faults *f = container_of(ev, struct faults, next);
    struct world *w = f->w;
    switch (choose(f)) {
    case FAULT_META:
        end_meta(f);
        break;
    case FAULT_TARGET:
        end_target(f, WORLD_TARGET((unsigned)rand_below(w->rand, w->targets)));
        break;
    case FAULT_CUT:
        cut_network(f);
        break;
    case FAULT_HEAL:
        heal_network(f);
        break;
    case FAULT_NETWORK:
        disturb_network(f);
        break;
    case FAULT_CLOCK:
        clock_fault(f);
        break;
    case FAULT_STILL:
        stand_still(f);
        break;
    case FAULT_DISK_FULL:
        disk_fault(f, disk_full);
        break;
    case FAULT_DISK_ERROR:
        disk_fault(f, disk_error);
        break;
    case FAULT_DISK_SLOW:
        disk_fault(f, disk_slow);
        break;
    case FAULT_ROT:
        if (f->rots_early) {
            rot_at(f, WORLD_TARGET((unsigned)rand_below(w->rand, w->targets)));
        }
        break;
    case FAULT_CLIENT:
        end_node(f, WORLD_CLIENT((unsigned)rand_below(w->rand, WORLD_CLIENTS)), END_KILL);
        break;
    case FAULT_COUNT:
        break;
    }
    uint64_t pause = f->only_names ? world_between(w, 20, 500) : world_between(w, 50, 2000);
    loop_sim_at(w->sim, &f->next, in_ms(w, pause));
}

void faults_init(struct faults *f, struct world *w)
{
    *f = (struct faults){.w = w, .next.run = happen, .watch.run = watch};
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        f->node[i] = (struct faults_node){.faults = f, .node = i, .heal.run = heal_due};
    }
}

void faults_add_later(struct faults *f, unsigned node, uint64_t ms)
{
    f->w->node[node].absent = true;
    f->node[node].down_until_ns = in_ms(f->w, ms);
}

void faults_begin(struct faults *f)
{
    if (f->only_names) {
        disturb_network(f);
    }
    loop_sim_at(f->w->sim, &f->next, in_ms(f->w, 500));
    loop_sim_at(f->w->sim, &f->watch, in_ms(f->w, 1));
}

void faults_end(struct faults *f)
{
    loop_sim_cancel(f->w->sim, &f->next);
    heal_network(f);
    net_sim_faults(f->w->net, 0, 0);
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        loop_sim_cancel(f->w->sim, &f->node[i].heal);
        heal_node(&f->node[i]);
        f->node[i].down_until_ns = 0;
    }
}

void faults_leave_down(struct faults *f, unsigned node)
{
    f->node[node].down_until_ns = UINT64_MAX;
    world_kill(f->w, node);
}
