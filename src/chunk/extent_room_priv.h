/*
 * chunk/extent_room_priv.h -- the `extent` engine and its disk: devices instead of files, and what
 * is kept back of a disk that is full.
 */
#pragma once

#include "chunk/extent_priv.h"

/* ---- extent_space.c ---- */
/* Room for one more container, which is the next one. */
NODISCARD int chunk_space_room(struct chunk_extent *x);
/* A container's header: CHUNK_UNIT bytes, the target at CHUNK_HEADER_OWNER. */
void chunk_space_header(const struct uuid *target, uint32_t number, uint8_t *to);
NODISCARD int chunk_space_header_check(const struct uuid *target, uint32_t number,
                                       const uint8_t *from);

/* ---- extent_device.c ---- */
/* In a new directory: the device is its from now on. Blocks. */
NODISCARD int chunk_device_claim(const struct chunk_options *opt, const struct uuid *target,
                                 struct err *e);
/* Its containers, if the directory has a device: 1; else 0. Blocks. */
NODISCARD int chunk_device_open(struct chunk_extent *x, struct err *e);

/* ---- extent_room.c ---- */
uint64_t chunk_room_segment(const struct chunk_store *s); /* bytes of a segment of the journal */
uint64_t chunk_room_left(const struct chunk_store *s);    /* by the index, to the journal */
uint64_t chunk_room_index(const struct chunk_store *s);   /* that the index has in its file */
uint64_t chunk_room_kept(const struct chunk_store *s);    /* from containers */
uint64_t chunk_room_units(const struct chunk_extent *x);  /* that containers may still get */
uint64_t chunk_room_step(const struct chunk_extent *x);   /* units to grow by now; 0: none */
bool chunk_room_refused(const struct chunk_extent *x);    /* contents are: only removing goes on */
/* Checkpoints give the journal's space back. Those records that the older of the two that are kept
 * does not have stay in it, so another one is made, also when nothing is new. No time is spared. */
void chunk_room_trim(struct chunk_extent *x);
void chunk_room_tick(struct chunk_extent *x);
void chunk_room_checkpoint(struct chunk_extent *x, int rc); /* one is over */
