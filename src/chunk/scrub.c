/* chunk/scrub.c -- see scrub.h. One chunk at a time, a few between two rests. */
#include "chunk/scrub.h"

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunk/hold.h"
#include "chunk/scrub_format.h"
#include "disk/disk.h"

#define NS_PER_MS UINT64_C(1000000)
#define BURST_CHUNKS 16u
#define BURST_WEIGHT (UINT64_C(4) << 20)
#define BURST_PARTS 100u /* of a round, at least */
#define SKIPS_MAX 1024u
#define IDLE_MS 60000u  /* between looks whether there is something to do */
#define RETRY_MS 1000u  /* the store was busy */
#define SAVE_MS 600000u /* at most so much is looked at again after a kill */
#define SAVE_PARTS 100u /* and at most such a part of the time of a round */

struct chunk_scrub {
    struct chunk_scrub_options opt;
    struct loop *loop;
    struct loop_timer timer;
    struct chunk_verify verify;
    struct chunk_scrub_record record;
    struct disk_file *file; /* NULL: nothing is kept */
    struct disk_req save;
    uint8_t bytes[CHUNK_SCRUB_BYTES];
    bool verifying, saving, stopping, unsaved;
    uint64_t saved_ms;
    unsigned burst; /* chunks since the last rest, their weight, and how long they took */
    uint64_t burst_weight, burst_ns, began_ns, weight;
    struct chunk_ahead ahead;
    bool seeking; /* the greatest data id: */
    uint64_t low, high;
};

static uint64_t scrub_wall_ms(const struct chunk_scrub *s)
{
    return loop_wall_ns(s->loop) / NS_PER_MS;
}

/* A clock that was set back does not make a round older. */
static uint64_t scrub_gone_ms(const struct chunk_scrub *s, uint64_t since_ms)
{
    uint64_t now = scrub_wall_ms(s);
    return now > since_ms ? now - since_ms : 0;
}

static void scrub_in(struct chunk_scrub *s, uint64_t ns)
{
    if (!s->stopping) {
        loop_timer_in(s->loop, &s->timer, ns);
    }
}

/* ---- Where it is ---- */

static void scrub_saved(struct disk_req *req, int64_t rc)
{
    struct chunk_scrub *s = container_of(req, struct chunk_scrub, save);
    s->saving = false;
    if (rc < 0) {
        s->unsaved = true; /* tried again with the next rest */
    }
}

static void scrub_save(struct chunk_scrub *s)
{
    if (s->file == NULL || s->saving || !s->unsaved) {
        return;
    }
    s->record.number++;
    s->unsaved = false;
    s->saved_ms = scrub_wall_ms(s);
    chunk_scrub_encode(&s->record, s->bytes);
    s->saving = true;
    s->save =
        (struct disk_req){.op = DISK_WRITE,
                          .lane = DISK_SCRUBBING,
                          .file = s->file,
                          .offset = s->record.number % CHUNK_SCRUB_COPIES * CHUNK_SCRUB_DISTANCE,
                          .buf = s->bytes,
                          .len = sizeof s->bytes,
                          .done = scrub_saved};
    disk_submit(s->opt.env->disk, &s->save);
}

static void scrub_save_when_due(struct chunk_scrub *s)
{
    uint64_t every = base_min(SAVE_MS, s->opt.round_ms / SAVE_PARTS);
    if (scrub_gone_ms(s, s->saved_ms) >= every) {
        scrub_save(s);
    }
}

/* The newer one of two good copies of this target; else all zero: a round begins. */
static void scrub_load(struct chunk_scrub *s)
{
    for (uint64_t copy = 0; copy < CHUNK_SCRUB_COPIES; copy++) {
        struct chunk_scrub_record x;
        struct disk_req req = {.op = DISK_READ,
                               .file = s->file,
                               .offset = copy * CHUNK_SCRUB_DISTANCE,
                               .buf = s->bytes,
                               .len = sizeof s->bytes};
        bool good = disk_now(s->opt.env->disk, &req) == (int64_t)sizeof s->bytes &&
                    chunk_scrub_decode(s->bytes, &x) == 0 &&
                    uuid_equal(&x.target, &s->record.target) && x.number > s->record.number;
        if (good) {
            s->record = x;
        }
    }
}

static int scrub_open(struct chunk_scrub *s, const char *directory)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/scrub", directory);
    if (path == NULL) {
        return -ENOMEM;
    }
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_CREATE};
    int64_t rc = disk_now(s->opt.env->disk, &req);
    if (rc < 0) {
        log_warn(s->opt.env->log, "where the check of all chunks is cannot be kept",
                 LOG_TEXT("path", path), LOG_RC((int)rc));
        return 0;
    }
    s->file = req.file;
    scrub_load(s);
    return 0;
}

/* ---- Rounds ---- */

static void scrub_fire(struct loop_timer *t);

static void scrub_read(struct chunk_ahead *a, int rc)
{
    struct chunk_scrub *s = container_of(a, struct chunk_scrub, ahead);
    if (rc < 0) {
        scrub_in(s, RETRY_MS * NS_PER_MS);
    } else {
        scrub_fire(&s->timer);
    }
}

/* Which chunk comes next is not known yet. */
static void scrub_wait(struct chunk_scrub *s, struct chunk_key from, int rc)
{
    if (rc == -ERR_need) {
        s->ahead.done = scrub_read;
        s->ahead.from = from;
        rc = chunk_store_ahead(s->opt.store, &s->ahead);
    }
    if (rc < 0) {
        scrub_in(s, RETRY_MS * NS_PER_MS);
    }
}

/* The greatest data id of the store; 0: it has no chunk. There is one at or above `low`, none above
 * `high`. False: it is not known yet. */
static bool scrub_last_id(struct chunk_scrub *s)
{
    struct chunk_info info;
    if (!s->seeking) {
        s->seeking = true;
        s->low = 0;
        s->high = UINT64_MAX;
    }
    while (s->low < s->high) {
        uint64_t middle = s->low + (s->high - s->low) / 2 + 1;
        const struct chunk_key from = {.data_id = middle};
        int rc = chunk_store_next(s->opt.store, from, &info);
        if (rc < 0 && rc != -ENOENT) {
            scrub_wait(s, from, rc);
            return false;
        }
        if (rc < 0) {
            s->high = middle - 1;
        } else {
            s->low = info.key.data_id;
        }
    }
    s->seeking = false;
    return true;
}

static void scrub_round_begin(struct chunk_scrub *s)
{
    struct chunk_store_info all;
    chunk_store_info(s->opt.store, &all);
    s->record.info.round =
        (struct chunk_scrub_round){.begun_ms = scrub_wall_ms(s),
                                   .last_id = s->low,
                                   .weight = all.used_bytes + all.chunk_count * CHUNK_SCRUB_SEEK};
    s->unsaved = true;
}

static void scrub_round_end(struct chunk_scrub *s)
{
    struct chunk_scrub_info *i = &s->record.info;
    i->rounds++;
    i->last_end_ms = scrub_wall_ms(s);
    i->last_took_ms = scrub_gone_ms(s, i->round.begun_ms);
    i->last_chunks = i->round.chunks;
    i->last_found = i->round.found;
    log_info(s->opt.env->log, "all chunks were checked", LOG_U64("chunks", i->last_chunks),
             LOG_U64("damaged", i->last_found));
    i->round = (struct chunk_scrub_round){0};
    s->unsaved = true;
    scrub_save(s);
    scrub_in(s, base_min(IDLE_MS, s->opt.round_ms) * NS_PER_MS);
}

/* One round in its time, also when it went faster because there was less to do at its end. */
static bool scrub_round_due(const struct chunk_scrub *s)
{
    const struct chunk_scrub_info *i = &s->record.info;
    struct chunk_store_info all;
    chunk_store_info(s->opt.store, &all);
    uint64_t from_ms = i->last_end_ms - base_min(i->last_took_ms, i->last_end_ms);
    return (i->rounds == 0 || scrub_gone_ms(s, from_ms) >= s->opt.round_ms) && all.chunk_count > 0;
}

/* ---- Chunks ---- */

static void scrub_next(struct chunk_scrub *s);

static void scrub_rest(struct chunk_scrub *s, bool busy)
{
    const struct chunk_scrub_round *r = &s->record.info.round;
    const struct chunk_scrub_pace pace = {.round_ms = s->opt.round_ms,
                                          .share_permille = s->opt.share_permille,
                                          .busy = busy,
                                          .gone_ms = scrub_gone_ms(s, r->begun_ms),
                                          .weight = r->weight,
                                          .done = r->done,
                                          .now = s->burst_weight,
                                          .took_ns = s->burst_ns};
    s->burst = 0;
    s->burst_weight = s->burst_ns = 0;
    scrub_save_when_due(s);
    scrub_in(s, chunk_scrub_pause_ns(&pace));
}

/* Behind the chunk at `next`. */
static void scrub_move(struct chunk_scrub *s)
{
    struct chunk_scrub_round *r = &s->record.info.round;
    r->done += s->weight;
    r->next.index++;
    r->next.data_id += r->next.index == 0 ? 1U : 0U;
}

static void scrub_step_over(struct chunk_scrub *s)
{
    const struct chunk_scrub_round *r = &s->record.info.round;
    scrub_move(s);
    s->burst++;
    s->burst_weight += s->weight;
    s->unsaved = true;
    bool busy = s->opt.user->ops->busy(s->opt.user);
    bool enough = s->burst >= BURST_CHUNKS ||
                  s->burst_weight >= base_min(BURST_WEIGHT, r->weight / BURST_PARTS);
    if (busy || enough || s->stopping) {
        scrub_rest(s, busy);
        return;
    }
    scrub_next(s);
}

static void scrub_verified(struct chunk_verify *v, int rc)
{
    struct chunk_scrub *s = container_of(v, struct chunk_scrub, verify);
    struct chunk_scrub_info *i = &s->record.info;
    s->verifying = false;
    s->burst_ns += loop_now_ns(s->loop) - s->began_ns;
    if (rc == -ERR_busy || rc == -ENOMEM) { /* not looked at yet */
        scrub_in(s, RETRY_MS * NS_PER_MS);
    } else {
        bool bad = rc < 0 && err_is(rc, EIO) && !v->pending_bad;
        i->round.chunks += rc == -ENOENT ? 0 : 1;
        i->round.found += bad ? 1 : 0;
        i->found += bad ? 1 : 0;
        scrub_step_over(s);
    }
    if (s->stopping) {
        scrub_save(s);
    }
}

static void scrub_next(struct chunk_scrub *s)
{
    struct chunk_scrub_round *r = &s->record.info.round;
    struct chunk_info info;
    bool damaged = true; /* those that are known are seen to by others */
    for (unsigned skipped = 0; damaged; skipped++) {
        int rc = chunk_store_next(s->opt.store, r->next, &info);
        if (rc < 0 && rc != -ENOENT) {
            scrub_wait(s, r->next, rc);
            return;
        }
        if (rc < 0 || info.key.data_id > r->last_id) {
            scrub_round_end(s);
            return;
        }
        r->next = info.key;
        s->weight = info.allocated_bytes + CHUNK_SCRUB_SEEK;
        damaged = (info.flags & CHUNK_DAMAGED) != 0;
        if (damaged) {
            scrub_move(s);
        }
        if (damaged && skipped == SKIPS_MAX) {
            scrub_rest(s, false);
            return;
        }
    }
    s->began_ns = loop_now_ns(s->loop);
    s->verifying = true;
    s->verify = (struct chunk_verify){
        .done = scrub_verified, .key = info.key, .medium = true, .lane = DISK_SCRUBBING};
    chunk_store_verify(s->opt.store, &s->verify);
}

static void scrub_fire(struct loop_timer *t)
{
    struct chunk_scrub *s = container_of(t, struct chunk_scrub, timer);
    struct chunk_store_info all;
    chunk_store_info(s->opt.store, &all);
    if (all.failed < 0) {
        return; /* nothing could be repaired; the next process begins where this one is */
    }
    if (s->record.info.round.begun_ms == 0 && !scrub_round_due(s)) {
        scrub_in(s, base_min(IDLE_MS, s->opt.round_ms) * NS_PER_MS);
        return;
    }
    if (s->record.info.round.begun_ms == 0) {
        if (!scrub_last_id(s)) {
            return; /* comes back here */
        }
        scrub_round_begin(s);
    }
    scrub_next(s);
}

/* ---- Life ---- */

int chunk_scrub_new(const struct chunk_scrub_options *opt, struct chunk_scrub **ret)
{
    CLEANUP(chunk_scrub_freep) struct chunk_scrub *s = mem_zalloc(sizeof *s);
    struct chunk_store_info all;
    if (s == NULL) {
        return -ENOMEM;
    }
    s->opt = *opt;
    s->opt.directory = NULL; /* lent */
    s->opt.round_ms = opt->round_ms == 0 ? CHUNK_SCRUB_ROUND_MS : opt->round_ms;
    s->opt.share_permille = opt->share_permille == 0
                                ? CHUNK_SCRUB_SHARE_PERMILLE
                                : (uint32_t)base_min(opt->share_permille, 1000);
    s->loop = opt->env->loop;
    s->timer.fire = scrub_fire;
    chunk_store_info(opt->store, &all);
    s->record.target = all.target;
    int rc = opt->directory == NULL ? 0 : scrub_open(s, opt->directory);
    if (rc < 0) {
        return rc;
    }
    s->saved_ms = scrub_wall_ms(s);
    scrub_in(s, base_min(IDLE_MS, s->opt.round_ms / SAVE_PARTS) * NS_PER_MS);
    *ret = s;
    s = NULL;
    return 0;
}

void chunk_scrub_stop(struct chunk_scrub *s)
{
    s->stopping = true;
    loop_timer_cancel(s->loop, &s->timer);
    chunk_store_ahead_end(s->opt.store, &s->ahead);
    if (!s->verifying) {
        scrub_save(s);
    }
}

bool chunk_scrub_active(const struct chunk_scrub *s)
{
    return s != NULL && (s->verifying || s->saving);
}

struct chunk_scrub *chunk_scrub_free(struct chunk_scrub *s)
{
    if (s == NULL) {
        return NULL;
    }
    CHECK(!chunk_scrub_active(s));
    loop_timer_cancel(s->loop, &s->timer);
    chunk_store_ahead_end(s->opt.store, &s->ahead);
    if (s->file != NULL) {
        struct disk_req req = {.op = DISK_CLOSE, .file = s->file};
        (void)disk_now(s->opt.env->disk, &req);
    }
    mem_free(s);
    return NULL;
}

void chunk_scrub_info(const struct chunk_scrub *s, struct chunk_scrub_info *ret)
{
    *ret = s->record.info;
}
