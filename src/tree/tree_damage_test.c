/*
 * tree/tree_damage_test.c -- bits of a file that flip, writes that went to another place, or were
 * lost: opening and reading gives what was written, or says what is damaged, or uses the checkpoint
 * before with exactly its state. Never anything wrong. Flips: rig_damage_priv.h.
 */
#include "tree/rig_damage_priv.h"
#include "tree/rig_life_priv.h"
#include "tree/rig_life_read_priv.h"

#define FLIPS 320u

struct world {
    struct rig_life life;
    struct rig_damage d;
    struct rig_image_file before; /* one checkpoint earlier */
};

struct extent {
    uint64_t offset, len;
};
#define EXTENTS_MAX 512u
struct extents {
    struct world *w;
    struct extent at[EXTENTS_MAX];
    size_t count;
};

static int check_all(struct rig_damage *d)
{
    return rig_life_check(d->life, 13);
}

/* A tree of some levels, with runs, deleted ranges, appended extents and memtables in the file. */
static void world_init(struct world *w, uint64_t seed)
{
    struct rig_life *l = &w->life;
    *w = (struct world){.d = {.life = l, .check = check_all}};
    rig_life_init(l, seed);
    l->rig.opt.memtable_bytes = 12u << 10;
    l->rig.opt.cache_bytes = 1u << 20;
    l->rig.opt.snapshot_bytes = 64u << 20;
    rig_life_kill(l, true);
    CHECK_OK(rig_life_open(l));
    for (uint64_t index = 40; index < 200; index += 40) {
        rig_life_commit_to(l, index);
        CHECK_OK(rig_life_save(l));
    }
    w->d.older = l->durable;
    rig_life_kill(l, false);
    rig_image_file_init(&w->before, l);
    rig_image_file_init(&w->d.now, l);
    rig_image_file_take(&w->before);
    CHECK_OK(rig_life_open(l));
    rig_life_commit_to(l, w->d.older + 9);
    CHECK_OK(rig_life_save(l));
    w->d.newest = l->durable;
    rig_life_kill(l, false);
    rig_image_file_take(&w->d.now);
    l->rig.opt.read_only = true;
}

static void world_fini(struct world *w)
{
    rig_image_file_fini(&w->before);
    rig_image_file_fini(&w->d.now);
    rig_life_fini(&w->life);
}

/* As the environment says. */
static void flip_all(void)
{
    uint64_t unit = 0;
    do {
        struct world w;
        world_init(&w, testing_seed());
        unit = rig_damage_flip_unit(&w.d, unit);
        world_fini(&w);
    } while (unit != 0);
}

TEST(bits_that_flip)
{
    struct world w;
    world_init(&w, testing_seed());
    rig_damage_flips(&w.d, FLIPS);
    CHECK_TRUE(w.d.right > 0 && w.d.fell_back > 0 && w.d.read_failed > 0);
    world_fini(&w);
    if (rig_damage_bits() > 0) {
        flip_all();
    }
}

/* ---- writes that went elsewhere ---- */

static void extents_in(void *ctx)
{
    struct extents *x = ctx;
    struct tree *t = tree_of(x->w->life.rig.kv);
    struct tree_node *n = tree_nodes_next(t->nodes, 0);
    for (; n != NULL && x->count < EXTENTS_MAX; n = tree_nodes_next(t->nodes, n->block)) {
        const struct tree_space_extent *e = &n->place.extent;
        x->at[x->count++] =
            (struct extent){e->unit * RIG_IMAGE_UNIT, (uint64_t)e->count * RIG_IMAGE_UNIT};
    }
}

static void extents_find(struct world *w, struct extents *x)
{
    *x = (struct extents){.w = w};
    CHECK_OK(rig_life_open(&w->life));
    loop_sim_enter(w->life.rig.machine.loop, extents_in, x);
    rig_life_kill(&w->life, false);
    CHECK_TRUE(x->count > 8);
    for (size_t i = 0; i < x->count; i++) {
        CHECK_TRUE(x->at[i].offset + x->at[i].len <= RIG_IMAGE_BYTES);
    }
}

/* The bytes of `from` lie where others should be. */
static void misdirect(struct world *w, const struct extent *to, const uint8_t *from, uint64_t len)
{
    CLEANUP(mem_freep) uint8_t *was = mem_dup(w->d.now.bytes + to->offset, len);
    CHECK_TRUE(was != NULL);
    memmove(w->d.now.bytes + to->offset, from, len);
    rig_image_file_put(&w->d.now, to->offset, len);
    rig_damage_read(&w->d, to->offset);
    memcpy(w->d.now.bytes + to->offset, was, len);
    rig_image_file_put(&w->d.now, to->offset, len);
}

TEST(writes_to_the_wrong_place)
{
    struct world w;
    struct extents x;
    world_init(&w, testing_seed() + 1);
    extents_find(&w, &x);
    for (unsigned i = 0; i < 60; i++) {
        const struct extent *a = &x.at[rand_below(&w.life.rig.rand, x.count)];
        const struct extent *b = &x.at[rand_below(&w.life.rig.rand, x.count)];
        if (a != b) {
            misdirect(&w, a, w.d.now.bytes + b->offset, base_min(a->len, b->len));
        }
    }
    rig_damage_unchanged(&w.d);
    CHECK_EQ(w.d.right, 0); /* every node is read */
    CHECK_TRUE(w.d.read_failed > 40);
    world_fini(&w);
}

/* What was there one checkpoint before is there still. */
TEST(writes_that_were_lost)
{
    struct world w;
    struct extents x;
    unsigned lost = 0;
    world_init(&w, testing_seed() + 2);
    extents_find(&w, &x);
    for (size_t i = 0; i < x.count; i++) {
        const uint8_t *was = w.before.bytes + x.at[i].offset;
        if (memcmp(was, w.d.now.bytes + x.at[i].offset, x.at[i].len) != 0) {
            misdirect(&w, &x.at[i], was, x.at[i].len);
            lost++;
        }
    }
    for (uint64_t unit = 1; unit < RIG_IMAGE_BYTES / RIG_IMAGE_UNIT; unit++) {
        struct extent one = {unit * RIG_IMAGE_UNIT, RIG_IMAGE_UNIT};
        const uint8_t *was = w.before.bytes + one.offset;
        if (memcmp(was, w.d.now.bytes + one.offset, one.len) != 0) {
            misdirect(&w, &one, was, one.len);
            lost++;
        }
    }
    rig_damage_unchanged(&w.d);
    CHECK_TRUE(lost > 0 && w.d.read_failed + w.d.refused + w.d.fell_back > 0);
    world_fini(&w);
}

/* ---- a life on top of damage ---- */

/* Who writes goes on with what he found, or says why he cannot. */
TEST(work_on_a_damaged_file)
{
    struct world w;
    struct extents x;
    unsigned given_up = 0;
    world_init(&w, testing_seed() + 3);
    extents_find(&w, &x);
    struct rig_life *l = &w.life;
    l->rig.opt.read_only = false;
    for (unsigned i = 0; i < 25; i++) {
        for (unsigned n = 0; n < 6; n++) {
            const struct extent *e = &x.at[rand_below(&l->rig.rand, x.count)];
            uint64_t at = n == 0 ? rig_damage_somewhere(&w.d)
                                 : e->offset + rand_below(&l->rig.rand, base_min(e->len, 1500));
            CHECK_OK(disk_sim_corrupt(l->rig.machine.disk, RIG_PATH, at, 0x10));
        }
        int rc = rig_life_open(l);
        CHECK_TRUE(rc == 0 || err_is(rc, EIO));
        uint64_t to = l->model->index + 200; /* more than memtables hold */
        for (unsigned n = 0; rc == 0 && l->model->index < to && kv_failed(l->rig.kv, NULL) == 0;
             n++) {
            CHECK_TRUE(n < 20000); /* it says so when it cannot go on */
            int got = rig_life_commit(l);
            CHECK_TRUE(got == 0 || got == -ERR_busy || err_is(got, EIO));
            rig_life_steps(l, 10);
        }
        if (rc == 0) {
            rc = rig_life_check(l, 17);
            CHECK_TRUE(rc == 0 || err_is(rc, EIO));
            rc = rig_life_checkpoint(l);
            CHECK_TRUE(rc == 0 || rc == -ENOMEM || err_is(rc, EIO));
            given_up += kv_failed(l->rig.kv, NULL) < 0;
        }
        rig_life_kill(l, true);
        rig_image_file_put(&w.d.now, 0, RIG_IMAGE_BYTES);
        l->durable = 0;
    }
    CHECK_TRUE(given_up > 5); /* nearly all do: few means that damage is lost */
    CHECK_OK(rig_life_open(l));
    CHECK_EQ(l->rig.found.index, w.d.newest);
    CHECK_OK(rig_life_check(l, 3));
    rig_life_kill(l, false);
    world_fini(&w);
}
