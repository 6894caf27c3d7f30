/*
 * tree/tree_damage_golden_test.c -- bits that flip in the golden files, and files that end early:
 * what is read is what was written, or it is said what is damaged; a frame of the stream is
 * refused. rig_damage_priv.h says how to have every bit flipped.
 */
#include "tree/rig_damage_priv.h"
#include "tree/rig_golden_priv.h"
#include "tree/rig_golden_stream_priv.h"

#define FLIPS 400u /* of each file */
#define FRAME_FLIPS 400u
#define CUTS 20u

struct world {
    struct rig_life life;
    struct rig_damage d;
    const struct rig_golden *g;
};

static int check_state(struct rig_damage *d)
{
    const struct rig_golden *g = container_of(d, struct world, d)->g;
    const struct rig_state *expected =
        d->life->rig.found.index == d->newest ? &g->newest : &g->older;
    struct rig_state is;
    int rc = rig_state_read(d->life, &is);
    CHECK_TRUE(rc < 0 || rig_state_same(&is, expected));
    return rc;
}

static void begin(struct world *w, const struct rig_golden *g)
{
    *w = (struct world){.g = g};
    w->d = (struct rig_damage){
        .life = &w->life, .check = check_state, .newest = g->newest.index, .older = g->older.index};
    rig_golden_begin(&w->life, &w->d.now, g);
    rig_golden_load(g, &w->d.now);
    w->life.rig.opt.read_only = true;
    rand_seed(&w->life.rig.rand, testing_seed());
}

/* As the environment says. */
static void flip_all(const struct rig_golden *g)
{
    uint64_t unit = 0;
    do {
        struct world w;
        begin(&w, g);
        unit = rig_damage_flip_unit(&w.d, unit);
        rig_golden_end(&w.life, &w.d.now);
    } while (unit != 0);
}

TEST(bits_of_golden_files_that_flip)
{
    unsigned right = 0, found = 0;
    for (size_t i = 0; i < ARRAY_COUNT(rig_golden); i++) {
        struct world w;
        begin(&w, &rig_golden[i]);
        rig_damage_flips(&w.d, FLIPS);
        if (rig_damage_bits() > 0) {
            flip_all(&rig_golden[i]);
        }
        right += w.d.right;
        found += w.d.refused + w.d.fell_back + w.d.read_failed;
        rig_golden_end(&w.life, &w.d.now);
    }
    CHECK_TRUE(right > 0 && found > ARRAY_COUNT(rig_golden));
}

/* ---- files that end early ---- */

static void cut_in(void *ctx)
{
    struct rig_image_file *f = ctx;
    struct disk *d = f->life->rig.env.disk;
    struct disk_req open = {.op = DISK_OPEN, .path = RIG_PATH, .flags = DISK_READ_WRITE};
    CHECK_EQ(disk_now(d, &open), 0);
    struct disk_req cut = {.op = DISK_TRUNCATE, .file = open.file, .len = f->len};
    struct disk_req sync = {.op = DISK_SYNC, .file = open.file};
    struct disk_req close = {.op = DISK_CLOSE, .file = open.file};
    CHECK_TRUE(disk_now(d, &cut) == 0 && disk_now(d, &sync) == 0 && disk_now(d, &close) == 0);
}

/* Where the last unit that has something ends. */
static uint64_t used(const struct rig_image_file *f)
{
    uint64_t units = RIG_IMAGE_BYTES / RIG_IMAGE_UNIT;
    while (rig_image_file_empty(f, units - 1)) {
        units--;
    }
    return units * RIG_IMAGE_UNIT;
}

/* At the end of each unit, and within it. */
TEST(golden_files_that_end_early)
{
    unsigned refused = 0, fell_back = 0;
    for (size_t i = 0; i < ARRAY_COUNT(rig_golden); i++) {
        struct world w;
        begin(&w, &rig_golden[i]);
        struct rig_image_file *f = &w.d.now;
        for (uint64_t len = used(f); len > 0;) {
            len -= len % RIG_IMAGE_UNIT > 0 ? len % RIG_IMAGE_UNIT
                                            : 1 + rand_below(&w.life.rig.rand, RIG_IMAGE_UNIT - 1);
            f->len = len;
            rig_image_file_enter(f, cut_in);
            rig_damage_read(&w.d, len < (uint64_t)RIG_DAMAGE_SUPERS * RIG_IMAGE_UNIT ? 0 : len);
        }
        refused += w.d.refused;
        fell_back += w.d.fell_back;
        rig_golden_end(&w.life, f);
    }
    CHECK_TRUE(refused > 0 && fell_back > 0);
}

/* Each read behind the end fails, and says where. */
static bool cut_while_open(struct world *w, uint64_t len)
{
    struct rig_image_file *f = &w->d.now;
    rig_image_file_put(f, 0, RIG_IMAGE_BYTES);
    CHECK_OK(rig_life_open(&w->life));
    CHECK_EQ(w->life.rig.found.index, w->d.newest);
    f->len = len;
    loop_sim_enter(w->life.rig.machine.loop, cut_in, f);
    int rc = w->d.check(&w->d);
    if (rc < 0) {
        const char *text = tree_fetcher_error(tree_of(w->life.rig.kv)->fetcher, NULL)->text;
        CHECK_ERR(rc, EIO);
        CHECK_TRUE(strstr(text, "block ") != NULL && strstr(text, " bytes at ") != NULL);
    }
    rig_life_kill(&w->life, false);
    return rc < 0;
}

TEST(golden_files_that_are_cut_while_they_are_read)
{
    for (size_t i = 0; i < ARRAY_COUNT(rig_golden); i++) {
        unsigned failed = 0;
        struct world w;
        begin(&w, &rig_golden[i]);
        uint64_t size = used(&w.d.now);
        CHECK_TRUE(!cut_while_open(&w, size));
        for (unsigned n = 0; n < CUTS; n++) {
            failed += cut_while_open(&w, rand_below(&w.life.rig.rand, size));
        }
        CHECK_TRUE(failed > 0);
        rig_golden_end(&w.life, &w.d.now);
    }
}

/* ---- the stream ---- */

static void refuse(struct rig_golden_stream *s, size_t i, size_t at, uint8_t mask)
{
    s->frames.frame[i][at] ^= mask;
    int rc = rig_stream_put(&s->stream, s->frames.frame[i], s->frames.len[i]);
    CHECK_TRUE(rc < 0 && !s->stream.put.whole);
    CHECK_TRUE(strstr(s->stream.put.err.text, "is expected") != NULL);
    CHECK_EQ(kv_receiver_cursor(s->stream.receiver).number, i);
    s->frames.frame[i][at] ^= mask;
}

/* Each byte: all of its bits, or one at random. */
static void refuse_all(struct rig_golden_stream *s, size_t i, unsigned bits)
{
    for (size_t at = 0; at < s->frames.len[i]; at++) {
        unsigned first = bits == 8 ? 0 : (unsigned)rand_below(&s->life.rig.rand, 8);
        for (unsigned bit = first; bit < first + bits; bit++) {
            refuse(s, i, at, (uint8_t)(1u << bit));
        }
    }
}

/* None is taken; then the right one is, and nothing of the others is in the file. */
TEST(bits_of_a_golden_stream_that_flip)
{
    struct rig_golden_stream s;
    rig_golden_stream_begin(&s);
    rig_golden_stream_load(&s.frames);
    rig_golden_stream_open(&s);
    struct rand *r = &s.life.rig.rand;
    rand_seed(r, testing_seed());
    for (size_t i = 0; i < s.frames.count; i++) {
        if (rig_damage_bits() > 0) {
            refuse_all(&s, i, rig_damage_bits());
        }
        for (unsigned n = 0; n <= FRAME_FLIPS / s.frames.count; n++) {
            size_t near = base_min(s.frames.len[i], 160);
            size_t at = rand_below(r, n % 2 == 0 ? near : s.frames.len[i]);
            refuse(&s, i, at, (uint8_t)(1u << rand_below(r, 8)));
        }
        rig_golden_stream_put(&s, i);
    }
    rig_golden_stream_check(&s);
    rig_golden_stream_end(&s);
}
