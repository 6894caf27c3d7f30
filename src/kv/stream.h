/*
 * kv/stream.h -- a checkpoint goes to another machine, whole: pinned here, read frame by frame from
 * any cursor on, and received there into a file that gets its name when all of it is verified.
 *
 *   sender:   kv_pin_new, kv_pin_read as often as the other side asks, kv_pin_free
 *   receiver: tree_receiver_open or kv_mem_receiver_open; kv_receiver_cursor, kv_receiver_put for
 *             each frame, until the last one is in; kv_receiver_free
 *
 * A connection that breaks loses nothing: the receiver says where to go on, also after its process
 * has died. A sender that has died has no pins; if its newest checkpoint is still the same one, a
 * new pin goes on, else reads say -ESTALE and the receiver begins again (option `again` of its
 * open). Speed is the reader's: one frame for one read, one read at a time, nothing is read ahead.
 *
 * Thread: the writer's, as kv.h; work that takes time is done by an executor. Callbacks fire
 * exactly once, on the loop, never inside the call that submits.
 */
#pragma once

#include "kv/frame.h"
#include "kv/kv.h"

/* ---- the sender ---- */

#define KV_PINS_MAX 2u /* of one engine; each costs disk space: kv_statistics.pinned_bytes */

struct kv_pin;
struct kv_receiver;

/* One frame. */
struct kv_pin_read {
    void (*done)(struct kv_pin_read *r, int rc);
    struct kv_cursor from; /* in: a frame of this stream, or all zero */
    uint8_t *buf;          /* KV_FRAME_MAX bytes, lent */
    size_t len;            /* out: of the frame; 0: `from` is behind the last one */
    struct kv_cursor next; /* out */
    bool last;             /* out: it ends the stream */
    struct err err;        /* out: block and place of what is damaged */
};

struct kv_pin_ops {
    void (*read)(struct kv_pin *p, struct kv_pin_read *r);
    void (*free)(struct kv_pin *p);
};
struct kv_pin {
    const struct kv_pin_ops *ops;
    uint64_t index, term; /* what the checkpoint has applied */
    uint64_t bytes;       /* of all frames, about */
    bool reading;
};

/*
 * Of the newest durable checkpoint, which stays as it is until kv_pin_free(); whoever asks for it
 * gives it back in time. -ENOENT: there is none; -ENOBUFS: KV_PINS_MAX others are held; -ENOMEM.
 */
NODISCARD int kv_pin_new(struct kv *kv, struct kv_pin **ret);
/* May come while a read is under way, which then ends with -ECANCELED. NULL is fine. All are free
 * before kv_free(). */
struct kv_pin *kv_pin_free(struct kv_pin *p);
DEFINE_FREEP(kv_pin)
/* -ESTALE: the cursor is of another checkpoint; -ERR_bad_value: there is no such frame; class EIO:
 * the checkpoint cannot be read or is damaged, and nothing of the frame is sent; -ENOMEM,
 * -ERR_busy, -ECANCELED. It may be tried again. One at a time. */
void kv_pin_read(struct kv_pin *p, struct kv_pin_read *r);

/* ---- the receiver ---- */

struct kv_receive {
    void (*done)(struct kv_receive *r, int rc);
    const uint8_t *bytes; /* a frame, lent until done */
    size_t len;
    bool whole;     /* out: it was the last one, the file is complete and has its name */
    struct err err; /* out */
};

struct kv_receiver_ops {
    void (*put)(struct kv_receiver *x, struct kv_receive *r);
    void (*free)(struct kv_receiver *x);
};
struct kv_receiver {
    const struct kv_receiver_ops *ops;
    struct kv_cursor next; /* what it waits for */
    uint64_t stored_bytes; /* so far */
    bool putting;
};

/*
 * One at a time. The frame is in the file when it is done; durable every now and then. Errors of
 * kv_frame_open(), -ERR_bad_value also for what no checkpoint can be: it is not taken, and waits
 * for the right one. -EIO, -ENOSPC, -ENOMEM: it may be put again; -ERR_failed_before: after a
 * failed sync only a new receiver may go on.
 */
void kv_receiver_put(struct kv_receiver *x, struct kv_receive *r);
static inline struct kv_cursor kv_receiver_cursor(const struct kv_receiver *x)
{
    return x->next;
}
/* Nothing is being put. What was received stays, for a next one. NULL is fine. Blocks for close. */
struct kv_receiver *kv_receiver_free(struct kv_receiver *x);
DEFINE_FREEP(kv_receiver)
