/*
 * kv/frame.h -- frames of a checkpoint that is streamed to another machine, and cursors, which say
 * where in a stream one is. Pure: bytes in, bytes out. Layout: doc/format/tree_stream.md.
 *
 * A stream is what one checkpoint consists of, cut into frames in one way only: whoever has the
 * checkpoint makes the same frames from any cursor on. Each frame says which stream it is of, its
 * number, what it holds (its place: the engine's numbers) and what the next one holds; its checksum
 * covers all of that, and the chain ties it to all frames before, so that a frame that is missing,
 * twice there, or of another stream fits nowhere. The chain behind the last frame is the digest of
 * the whole.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#define KV_FRAME_HEADER_BYTES 96u
#define KV_FRAME_PAYLOAD_MAX (256u << 10)
#define KV_FRAME_MAX (KV_FRAME_HEADER_BYTES + KV_FRAME_PAYLOAD_MAX)
#define KV_CURSOR_BYTES 64u

struct kv_place { /* what a frame holds: the engine's, ascending */
    uint32_t kind, part;
    uint64_t item, offset;
};

/* The frame that comes next. All zero: the first one, of whatever stream it is. */
struct kv_cursor {
    uint64_t stream;
    uint64_t number; /* frames before it */
    uint64_t chain;  /* digest of them */
    struct kv_place place;
};
void kv_cursor_encode(const struct kv_cursor *c, uint8_t out[KV_CURSOR_BYTES]);
/* Class ERR_corrupt. */
NODISCARD int kv_cursor_decode(const uint8_t in[KV_CURSOR_BYTES], struct kv_cursor *ret);

struct kv_frame {
    struct kv_cursor at;   /* of this frame */
    struct kv_cursor next; /* behind it */
    bool last;             /* nothing comes next; next.place is all zero */
    const uint8_t *payload;
    size_t len;
};
/* The payload, at most KV_FRAME_PAYLOAD_MAX, lies at out + KV_FRAME_HEADER_BYTES already. In:
 * f->at, f->next.place, f->last, f->len. Fills in the rest of f->next. Returns the length of the
 * frame. */
size_t kv_frame_seal(struct kv_frame *f, uint8_t *out);
/*
 * One whole frame, which must be the one that `at` says. -ERR_short_msg, -ERR_bad_magic,
 * -ERR_bad_version, -ERR_bad_length, -ERR_bad_crc: it was damaged on the way; -ESTALE: it is of
 * another stream; -ERR_bad_value: it is not the next one. `e` says what and which.
 */
NODISCARD int kv_frame_open(const struct kv_cursor *at, const uint8_t *bytes, size_t len,
                            struct kv_frame *ret, struct err *e);
