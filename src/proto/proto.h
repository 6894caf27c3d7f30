/*
 * proto/proto.h -- every message of OpenDFS once. The tables are in *.def, the machinery in
 * proto/table.h; doc/protocol.md is made from them.
 *
 * For each call there are struct proto_<name>_request and struct proto_<name>_reply, for each
 * one-way message struct proto_<name>_push, for each shared record struct proto_<name>; their
 * descriptions are proto_<...>_type; PROTO_OP_<name> is the opcode. Plain values, no owner, any
 * thread.
 */
#pragma once

#include "proto/table.h"
#include "proto/values.h"

#include "proto/types.def"

#include "proto/admin.def"
#include "proto/common.def"
#include "proto/data.def"
#include "proto/lock.def"
#include "proto/meta.def"
#include "proto/node.def"
#include "proto/session.def"

/* All records that are no messages, what is used before its users. */
#define PROTO_RECORDS(T)     \
    PROTO_TYPES(T)           \
    PROTO_META_RECORDS(T)    \
    PROTO_SESSION_RECORDS(T) \
    PROTO_DATA_RECORDS(T)    \
    PROTO_NODE_RECORDS(T)    \
    PROTO_ADMIN_RECORDS(T)
/* All messages: C(opcode, name, roles, text) for calls, P for one-way ones. */
#define PROTO_MESSAGES(C, P)     \
    PROTO_COMMON_MESSAGES(C, P)  \
    PROTO_META_MESSAGES(C, P)    \
    PROTO_SESSION_MESSAGES(C, P) \
    PROTO_LOCK_MESSAGES(C, P)    \
    PROTO_DATA_MESSAGES(C, P)    \
    PROTO_NODE_MESSAGES(C, P)    \
    PROTO_ADMIN_MESSAGES(C, P)

PROTO_RECORDS(TABLE_STRUCT)
#define PROTO_CALL_STRUCTS(opcode, name, roles, text) \
    TABLE_STRUCT(proto_##name##_request) TABLE_STRUCT(proto_##name##_reply)
#define PROTO_PUSH_STRUCTS(opcode, name, roles, text) TABLE_STRUCT(proto_##name##_push)
PROTO_MESSAGES(PROTO_CALL_STRUCTS, PROTO_PUSH_STRUCTS)

#define PROTO_OPCODE(opcode, name, roles, text) PROTO_OP_##name = (opcode),
enum { PROTO_MESSAGES(PROTO_OPCODE, PROTO_OPCODE) };

struct proto_message {
    const char *name, *text;
    const struct proto_type *request; /* of a push: its body */
    const struct proto_type *reply;   /* NULL: a push */
    uint16_t opcode;
    uint32_t roles; /* PROTO_ROLE_... that may send it */
};
/* The list, in the order of the tables; and one of it, NULL when unknown. */
const struct proto_message *proto_messages(size_t *ret_count);
const struct proto_message *proto_message_find(uint16_t opcode);
const char *proto_opcode_name(uint16_t opcode); /* "unknown" when it is */

/*
 * CRC-32C of what a mutation asks for: its opcode and all of the encoded body behind the leading
 * op, which may differ between retries. -ERR_short_msg when the body holds no op.
 */
NODISCARD int proto_op_crc(uint16_t opcode, const void *body, size_t len, uint32_t *ret);
/* Puts that CRC into the op of an encoded body. */
NODISCARD int proto_op_seal(uint16_t opcode, void *body, size_t len);
