/*
 * wire/frame.h -- the frame header (design section 4): 40 bytes before the encoded body and the raw
 * data bytes, little-endian:
 *
 *  0 magic u32 | 4 version u8 | 5 kind u8 | 6 opcode u16 | 8 id u32
 * 12 status i32 (responses) or deadline_ms u32 (requests)
 * 16 body length u32 | 20 data length u32 | 24 trace u64
 * 32 body CRC u32 | 36 header CRC u32, over bytes 0..35
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#define FRAME_BYTES 40u
#define FRAME_MAGIC 0x5344464fu /* "OFDS" */
#define FRAME_VERSION 1u
#define FRAME_BODY_MAX (1u << 20)
#define FRAME_DATA_MAX (4u << 20)

enum wire_frame_kind { FRAME_REQUEST = 1, FRAME_RESPONSE = 2, FRAME_PUSH = 3, FRAME_CANCEL = 4 };

struct wire_frame {
    uint8_t kind;
    uint16_t opcode;
    uint32_t id;
    int32_t status;       /* responses: 0 or negative code */
    uint32_t deadline_ms; /* requests: relative */
    uint32_t body_len, data_len;
    uint64_t trace;
    uint32_t body_crc;
};
/* The status goes out in responses, the deadline in requests, zero otherwise. */
void wire_frame_encode(const struct wire_frame *f, uint8_t out[FRAME_BYTES]);
/* Checks magic, CRC, version, kind and status, and limits in this order: -ERR_bad_magic,
 * -ERR_bad_crc, -ERR_bad_version, -ERR_bad_value, -ERR_bad_length. Nothing is trusted before. A
 * positive status, or one without a positive counterpart, is a bad value; a push with data, or a
 * cancel with anything, a bad length. */
NODISCARD int wire_frame_decode(const uint8_t in[FRAME_BYTES], struct wire_frame *ret);
#define FRAME_TEXT_SIZE 160u /* enough for wire_frame_to_text */
void wire_frame_to_text(const struct wire_frame *f, char *out, size_t size);
