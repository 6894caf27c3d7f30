/*
 * tree/rig_damage_priv.h -- for tests only: a file of a tree with two checkpoints in which
 * something is damaged: opening and reading it gives what was written, or says what is damaged, or
 * uses the checkpoint before. Never anything wrong.
 *
 * Flips are taken at random; with OPENDFS_DAMAGE=all in the environment every byte has its turn,
 * with OPENDFS_DAMAGE=bits every bit.
 */
#pragma once

#include "tree/rig_image_file_priv.h"

#include <stdlib.h>

#define RIG_DAMAGE_SUPERS 17u /* the superblocks are the first and the last of these units */

struct rig_damage {
    struct rig_life *life; /* opens for reading only */
    struct rig_image_file now;
    uint64_t newest, older; /* indexes of the checkpoints */
    /* Compares all that can be read; 0, or a failure that was met. */
    int (*check)(struct rig_damage *d);
    unsigned refused, fell_back, read_failed, right;
};

/* How many of each byte have their turn: 8, 1, or 0 (random flips only). */
static inline unsigned rig_damage_bits(void)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
    const char *how = getenv("OPENDFS_DAMAGE");
    bool all = how != NULL && strcmp(how, "all") == 0;
    return how != NULL && strcmp(how, "bits") == 0 ? 8 : all ? 1 : 0;
}

/* Opens and reads everything, with damage at `offset`. */
static inline void rig_damage_read(struct rig_damage *d, uint64_t offset)
{
    struct rig_life *l = d->life;
    bool super = offset / RIG_IMAGE_UNIT == 0 || offset / RIG_IMAGE_UNIT == RIG_DAMAGE_SUPERS - 1;
    int rc = rig_life_open(l);
    if (rc < 0) {
        CHECK_ERR(rc, EIO);
        CHECK_TRUE(strstr(l->rig.err.text, RIG_PATH) != NULL);
        d->refused++;
        rig_life_kill(l, false);
        return;
    }
    uint64_t index = l->rig.found.index;
    CHECK_TRUE(index == d->newest || index == d->older);
    CHECK_TRUE(index == d->newest || l->rig.found.fell_back || super);
    if (l->rig.found.fell_back) {
        CHECK_TRUE(l->rig.found.note.text[0] != 0);
        CHECK_EQ(index, d->older);
    }
    d->fell_back += index == d->older;
    rc = d->check(d);
    if (rc < 0) {
        CHECK_ERR(rc, EIO);
        const char *text = tree_fetcher_error(tree_of(l->rig.kv)->fetcher, NULL)->text;
        CHECK_TRUE(strstr(text, "node ") != NULL || strstr(text, "block ") != NULL);
        d->read_failed++;
    } else {
        d->right++;
    }
    rig_life_kill(l, false);
}

static inline void rig_damage_flip(struct rig_damage *d, uint64_t offset, uint8_t mask)
{
    struct disk_sim *disk = d->life->rig.machine.disk;
    CHECK_OK(disk_sim_corrupt(disk, RIG_PATH, offset, mask));
    rig_damage_read(d, offset);
    CHECK_OK(disk_sim_corrupt(disk, RIG_PATH, offset, mask));
}

/* Nothing was written, and nothing is left of the damage. */
static inline void rig_damage_unchanged(struct rig_damage *d)
{
    struct rig_image_file is;
    rig_image_file_init(&is, d->life);
    rig_image_file_take(&is);
    CHECK_BYTES(is.bytes, d->now.bytes, RIG_IMAGE_BYTES);
    rig_image_file_fini(&is);
}

/* Of a unit that is not all zero: mostly near its beginning, where headers are. */
static inline uint64_t rig_damage_somewhere(struct rig_damage *d)
{
    struct rand *r = &d->life->rig.rand;
    uint64_t units = RIG_IMAGE_BYTES / RIG_IMAGE_UNIT, unit = 0;
    do {
        unit = rand_chance(r, 1, 12) ? (rand_chance(r, 1, 2) ? 0 : RIG_DAMAGE_SUPERS - 1)
                                     : rand_below(r, units);
    } while (rig_image_file_empty(&d->now, unit));
    return unit * RIG_IMAGE_UNIT +
           (rand_chance(r, 1, 3) ? rand_below(r, 400) : rand_below(r, RIG_IMAGE_UNIT));
}

/* Each byte of the first unit from `unit` on that is not empty: all of its bits, or one at random.
 * Returns where to go on, which is done in another simulation: this one keeps something of every
 * process that there was. 0: it was the last one. */
static inline uint64_t rig_damage_flip_unit(struct rig_damage *d, uint64_t unit)
{
    uint64_t units = RIG_IMAGE_BYTES / RIG_IMAGE_UNIT;
    bool every = rig_damage_bits() == 8;
    while (unit < units && rig_image_file_empty(&d->now, unit)) {
        unit++;
    }
    for (uint64_t at = unit * RIG_IMAGE_UNIT; unit < units && at < (unit + 1) * RIG_IMAGE_UNIT;
         at++) {
        unsigned first = every ? 0 : (unsigned)rand_below(&d->life->rig.rand, 8);
        for (unsigned bit = first; bit <= (every ? 7 : first); bit++) {
            rig_damage_flip(d, at, (uint8_t)(1u << bit));
        }
    }
    rig_damage_unchanged(d);
    return unit + 1 < units ? unit + 1 : 0;
}

/* At random. */
static inline void rig_damage_flips(struct rig_damage *d, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = rig_damage_somewhere(d);
        rig_damage_flip(d, at, (uint8_t)(1u << rand_below(&d->life->rig.rand, 8)));
    }
    rig_damage_unchanged(d);
}
