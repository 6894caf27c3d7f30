/*
 * tree/tree_damage_test.c -- bits of a file that flip, writes that went to another place, or were
 * lost: opening and reading gives what was written, or says what is damaged, or uses the checkpoint
 * before with exactly its state. Never anything wrong.
 *
 * Flips are taken at random; with OPENDFS_DAMAGE=all in the environment every byte has its turn,
 * with OPENDFS_DAMAGE=bits every bit.
 */
#include "tree/rig_image_file_priv.h"
#include "tree/rig_life_priv.h"
#include "tree/rig_life_read_priv.h"

#include <stdlib.h>

#define FLIPS 320u
#define SUPER_UNITS 17u /* the superblocks are the first and the last of these */

struct world {
    struct rig_life life;
    struct rig_image_file now, before; /* at the end; one checkpoint earlier */
    uint64_t newest, older;            /* indexes of the checkpoints */
    unsigned refused, fell_back, read_failed, right;
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

/* A tree of some levels, with runs, deleted ranges, appended extents and memtables in the file. */
static void world_init(struct world *w, uint64_t seed)
{
    struct rig_life *l = &w->life;
    *w = (struct world){0};
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
    w->older = l->durable;
    rig_life_kill(l, false);
    rig_image_file_init(&w->before, l);
    rig_image_file_init(&w->now, l);
    rig_image_file_take(&w->before);
    CHECK_OK(rig_life_open(l));
    rig_life_commit_to(l, w->older + 9);
    CHECK_OK(rig_life_save(l));
    w->newest = l->durable;
    rig_life_kill(l, false);
    rig_image_file_take(&w->now);
    l->rig.opt.read_only = true;
}

static void world_fini(struct world *w)
{
    rig_image_file_fini(&w->before);
    rig_image_file_fini(&w->now);
    rig_life_fini(&w->life);
}

/* Opens and reads everything, with damage at `offset`. */
static void check_reading(struct world *w, uint64_t offset)
{
    struct rig_life *l = &w->life;
    bool super = offset / RIG_IMAGE_UNIT == 0 || offset / RIG_IMAGE_UNIT == SUPER_UNITS - 1;
    int rc = rig_life_open(l);
    if (rc < 0) {
        CHECK_ERR(rc, EIO);
        CHECK_TRUE(strstr(l->rig.err.text, RIG_PATH) != NULL);
        w->refused++;
        rig_life_kill(l, false);
        return;
    }
    uint64_t index = l->rig.found.index;
    CHECK_TRUE(index == w->newest || index == w->older);
    CHECK_TRUE(index == w->newest || l->rig.found.fell_back || super);
    if (l->rig.found.fell_back) {
        CHECK_TRUE(l->rig.found.note.text[0] != 0);
        CHECK_EQ(index, w->older);
    }
    w->fell_back += index == w->older;
    rc = rig_life_check(l, 13);
    if (rc < 0) {
        CHECK_ERR(rc, EIO);
        const char *text = tree_fetcher_error(tree_of(l->rig.kv)->fetcher, NULL)->text;
        CHECK_TRUE(strstr(text, "node ") != NULL || strstr(text, "block ") != NULL);
        w->read_failed++;
    } else {
        w->right++;
    }
    rig_life_kill(l, false);
}

static void flip(struct world *w, uint64_t offset, uint8_t mask)
{
    struct disk_sim *d = w->life.rig.machine.disk;
    CHECK_OK(disk_sim_corrupt(d, RIG_PATH, offset, mask));
    check_reading(w, offset);
    CHECK_OK(disk_sim_corrupt(d, RIG_PATH, offset, mask));
}

static void check_unchanged(struct world *w)
{
    struct rig_image_file is;
    rig_image_file_init(&is, &w->life);
    rig_image_file_take(&is);
    CHECK_BYTES(is.bytes, w->now.bytes, RIG_IMAGE_BYTES);
    rig_image_file_fini(&is);
}

/* Of a unit that is not all zero: mostly near its beginning, where headers are. */
static uint64_t somewhere(struct world *w)
{
    struct rand *r = &w->life.rig.rand;
    uint64_t units = RIG_IMAGE_BYTES / RIG_IMAGE_UNIT, unit = 0;
    do {
        unit = rand_chance(r, 1, 12) ? (rand_chance(r, 1, 2) ? 0 : SUPER_UNITS - 1)
                                     : rand_below(r, units);
    } while (rig_image_file_empty(&w->now, unit));
    return unit * RIG_IMAGE_UNIT +
           (rand_chance(r, 1, 3) ? rand_below(r, 400) : rand_below(r, RIG_IMAGE_UNIT));
}

/* Each byte of what is not empty: all of its bits, or one at random. */
static void flip_all(struct world *w, bool every)
{
    uint64_t bytes = 0;
    for (uint64_t at = 0; at < RIG_IMAGE_BYTES; at++) {
        bytes += rig_image_file_empty(&w->now, at / RIG_IMAGE_UNIT) ? 0 : 1;
    }
    fprintf(stderr, "%llu bytes\n", (unsigned long long)bytes);
    for (uint64_t at = 0; at < RIG_IMAGE_BYTES; at++) {
        bool empty = rig_image_file_empty(&w->now, at / RIG_IMAGE_UNIT);
        unsigned first = every ? 0 : (unsigned)rand_below(&w->life.rig.rand, 8);
        for (unsigned bit = first; !empty && bit <= (every ? 7 : first); bit++) {
            flip(w, at, (uint8_t)(1u << bit));
        }
    }
}

TEST(bits_that_flip)
{
    struct world w;
    world_init(&w, testing_seed());
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
    const char *how = getenv("OPENDFS_DAMAGE");
    if (how != NULL && (strcmp(how, "all") == 0 || strcmp(how, "bits") == 0)) {
        flip_all(&w, how[0] == 'b');
    }
    for (unsigned i = 0; i < FLIPS; i++) {
        uint64_t at = somewhere(&w);
        flip(&w, at, (uint8_t)(1u << rand_below(&w.life.rig.rand, 8)));
    }
    check_unchanged(&w);
    CHECK_TRUE(w.right > 0 && w.fell_back > 0 && w.read_failed > 0);
    world_fini(&w);
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
    CLEANUP(mem_freep) uint8_t *was = mem_dup(w->now.bytes + to->offset, len);
    CHECK_TRUE(was != NULL);
    memmove(w->now.bytes + to->offset, from, len);
    rig_image_file_put(&w->now, to->offset, len);
    check_reading(w, to->offset);
    memcpy(w->now.bytes + to->offset, was, len);
    rig_image_file_put(&w->now, to->offset, len);
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
            misdirect(&w, a, w.now.bytes + b->offset, base_min(a->len, b->len));
        }
    }
    check_unchanged(&w);
    CHECK_EQ(w.right, 0); /* every node is read */
    CHECK_TRUE(w.read_failed > 40);
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
        if (memcmp(was, w.now.bytes + x.at[i].offset, x.at[i].len) != 0) {
            misdirect(&w, &x.at[i], was, x.at[i].len);
            lost++;
        }
    }
    for (uint64_t unit = 1; unit < RIG_IMAGE_BYTES / RIG_IMAGE_UNIT; unit++) {
        struct extent one = {unit * RIG_IMAGE_UNIT, RIG_IMAGE_UNIT};
        const uint8_t *was = w.before.bytes + one.offset;
        if (memcmp(was, w.now.bytes + one.offset, one.len) != 0) {
            misdirect(&w, &one, was, one.len);
            lost++;
        }
    }
    check_unchanged(&w);
    CHECK_TRUE(lost > 0 && w.read_failed + w.refused + w.fell_back > 0);
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
            uint64_t at = n == 0 ? somewhere(&w)
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
        rig_image_file_put(&w.now, 0, RIG_IMAGE_BYTES);
        l->durable = 0;
    }
    CHECK_TRUE(given_up > 5); /* nearly all do: few means that damage is lost */
    CHECK_OK(rig_life_open(l));
    CHECK_EQ(l->rig.found.index, w.newest);
    CHECK_OK(rig_life_check(l, 3));
    rig_life_kill(l, false);
    world_fini(&w);
}
