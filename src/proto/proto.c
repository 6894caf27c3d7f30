#include "proto/proto.h"

#include "base/crc32c.h"

PROTO_RECORDS(TABLE_DEFINE)

#define CALL_DEFINE(opcode, name, roles, text) \
    TABLE_DEFINE(proto_##name##_request) TABLE_DEFINE(proto_##name##_reply)
#define PUSH_DEFINE(opcode, name, roles, text) TABLE_DEFINE(proto_##name##_push)
PROTO_MESSAGES(CALL_DEFINE, PUSH_DEFINE)

#define CALL_ROW(opcode_, name_, roles_, text_) \
    {.name = #name_,                            \
     .text = (text_),                           \
     .request = &proto_##name_##_request_type,  \
     .reply = &proto_##name_##_reply_type,      \
     .opcode = (opcode_),                       \
     .roles = (roles_)},
#define PUSH_ROW(opcode_, name_, roles_, text_) \
    {.name = #name_,                            \
     .text = (text_),                           \
     .request = &proto_##name_##_push_type,     \
     .opcode = (opcode_),                       \
     .roles = (roles_)},
static const struct proto_message messages[] = {PROTO_MESSAGES(CALL_ROW, PUSH_ROW)};

const struct proto_message *proto_messages(size_t *ret_count)
{
    *ret_count = ARRAY_COUNT(messages);
    return messages;
}

#define MESSAGE_CASE(opcode_, name_, roles_, text_) \
    case (opcode_):                                 \
        return &messages[PLACE_##name_];
#define MESSAGE_PLACE(opcode_, name_, roles_, text_) PLACE_##name_,
enum { PROTO_MESSAGES(MESSAGE_PLACE, MESSAGE_PLACE) };

const struct proto_message *proto_message_find(uint16_t opcode)
{
    switch (opcode) { /* two messages with one opcode do not compile */
        PROTO_MESSAGES(MESSAGE_CASE, MESSAGE_CASE)
    default:
        return NULL;
    }
}

const char *proto_opcode_name(uint16_t opcode)
{
    const struct proto_message *m = proto_message_find(opcode);
    return m == NULL ? "unknown" : m->name;
}

/* Where an encoded op (with its length before it) has its CRC; a test compares with the encoder. */
#define OP_CRC_OFFSET 24u

/* The op's bytes with the length before them, or 0. */
static size_t op_bytes(const uint8_t *body, size_t len)
{
    if (len < OP_CRC_OFFSET + 4) {
        return 0;
    }
    size_t inside = wire_load_u32(body);
    bool good = inside >= OP_CRC_OFFSET && inside <= len - 4;
    return good ? inside + 4 : 0;
}

int proto_op_crc(uint16_t opcode, const void *body, size_t len, uint32_t *ret)
{
    size_t skip = op_bytes(body, len);
    if (skip == 0) {
        return -ERR_short_msg;
    }
    uint8_t code[2];
    wire_store_u16(code, opcode);
    *ret = crc32c(crc32c(0, code, sizeof code), (const uint8_t *)body + skip, len - skip);
    return 0;
}

int proto_op_seal(uint16_t opcode, void *body, size_t len)
{
    uint32_t crc;
    int rc = proto_op_crc(opcode, body, len, &crc);
    if (rc == 0) {
        wire_store_u32((uint8_t *)body + OP_CRC_OFFSET, crc);
    }
    return rc;
}
