/*
 * namespace/record.h -- the records of the metadata and the commands of its log, and the keys that
 * they lie under. Plain values, no owner, any thread. doc/format/namespace.md describes both.
 */
#pragma once

#include "kv/kv.h"
#include "proto/proto.h"

#include "namespace/command.def"
#include "namespace/record.def"

NAMESPACE_RECORDS(TABLE_STRUCT)
NAMESPACE_COMMANDS(TABLE_STRUCT)

#define NAMESPACE_FORMAT 1u
#define NAMESPACE_COMMAND_FIRST 1u
#define NAMESPACE_COMMAND_VERSION 3u   /* the newest that this program knows; see the function */
#define NAMESPACE_RESULT_MAX 512u      /* encoded slot record */
#define NAMESPACE_INLINE_DEFAULT 4096u /* limit of classes that name none */
#define NAMESPACE_INLINE_MAX 65536u
#define NAMESPACE_LINK_MAX 65000u /* names of one file */
#define NAMESPACE_DIR_LINK_MAX 0x7fffffffu
#define NAMESPACE_DEPTH_MAX 8192u       /* directories above each other, the root counted */
#define NAMESPACE_STATS_QUOTA 1u        /* flag of statistics: the directory has a quota */
#define NAMESPACE_GRACE_DEFAULT 604800u /* s: 7 days */
#define NAMESPACE_GRACE_MAX 315360000u  /* s: 3,650 days */
#define NAMESPACE_SESSIONS_MAX 65536u
#define NAMESPACE_OBLIGATIONS_MAX 2048u /* wopens and orphans of one session */
#define NAMESPACE_LOCKS_MAX 16384u      /* of one session: ENOLCK */
#define NAMESPACE_GROUPS_MAX 16384u
#define NAMESPACE_CREDS_MAX 4096u         /* of one session, */
#define NAMESPACE_CRED_GROUPS_MAX 262144u /* and the groups of all of them together */
#define NAMESPACE_SLOTS_MIN 8u
#define NAMESPACE_SLOTS_DEFAULT 64u
#define NAMESPACE_SLOTS_MAX 256u
#define NAMESPACE_LISTXATTR_MAX 65536u   /* of a reply; listxattr(2) allows no more */
#define NAMESPACE_XATTR_NAMES_MAX 65472u /* names of an inode, each with its NUL, but of lists */
#define NAMESPACE_XATTR_BYTES_MAX (1u << 20) /* names and values of an inode */
#define NAMESPACE_TRASH_BATCH 1024u          /* files that one command purges */
#define NAMESPACE_TRASH_PATH_MAX 1023u
#define NAMESPACE_LEAPS_MAX 256u                 /* with more of them nothing is removed any more */
#define NAMESPACE_SUSPECTS_MAX 262144u           /* more are not noted: a later look finds them */
#define NAMESPACE_LEAP_LEAST (UINT64_C(1) << 32) /* data ids that each restore leaps over */

/* Kinds of commands that are no client's mutation; numbers are in logs: append only. */
enum namespace_kind {
    NAMESPACE_FORMAT_ROOT = 0x8000,
    NAMESPACE_EXPIRE = 0x8001,
    NAMESPACE_FENCE_DONE = 0x8002,
    NAMESPACE_TRIM_DONE = 0x8003,
    NAMESPACE_GARBAGE_DONE = 0x8004,
    NAMESPACE_ORPHAN_DROP = 0x8005,
    NAMESPACE_TARGET_PUT = 0x8006,
    NAMESPACE_ROWS_PUT = 0x8007,
    NAMESPACE_TABLE_PUT = 0x8008,
    /* 0x8009 was a setting of the cluster, which nothing ever set */
    NAMESPACE_DEFAULT_CLASS = 0x800a,
    NAMESPACE_TRASH_PURGE = 0x800b,
    NAMESPACE_BALANCE = 0x800c,
    NAMESPACE_AUDIT_BEGIN = 0x800d,
    NAMESPACE_AUDIT_FOUND = 0x800e,
    NAMESPACE_AUDIT_END = 0x800f,
    NAMESPACE_AUDIT_RELEASE = 0x8010,
    NAMESPACE_LOCK_GRANT = 0x8011,
};

/* A command has the lowest version whose programs do with it what it says: an earlier one stops
 * there, where it would pass over what it does not know, and come to other records than the rest.
 * 2: GARBAGE_DONE of all chains; 3: locks. `body` NULL: whatever it says. */
uint16_t namespace_command_version(uint16_t kind, const void *body);
/* What the body of a command of this kind is; NULL: there is no such kind. */
const struct proto_type *namespace_body_type(uint16_t kind);
/* The command and its body, for people who read logs. Any bytes: nonsense is said to be that. */
void namespace_command_to_text(const void *bytes, size_t len, struct mem_arena *a,
                               struct text *out);

/* First byte of every key. On disk: append only. */
enum namespace_range {
    NAMESPACE_STATE = 'A',          /* - -> namespace_state */
    NAMESPACE_TABLE = 'B',          /* class u32, version u32 -> proto_table */
    NAMESPACE_CLASS = 'C',          /* class u32 -> proto_storage_class */
    NAMESPACE_DIRENT = 'D',         /* parent, name -> namespace_dirent */
    NAMESPACE_ACL = 'E',            /* ino, kind u8 -> proto_acl */
    NAMESPACE_INODE = 'I',          /* ino -> namespace_inode */
    NAMESPACE_INLINE = 'J',         /* ino -> bytes */
    NAMESPACE_LINK = 'L',           /* ino, parent, name -> - */
    NAMESPACE_QUOTA = 'Q',          /* ino -> namespace_quota */
    NAMESPACE_ROW = 'R',            /* chain u32 -> proto_row */
    NAMESPACE_DIR_STATS = 'S',      /* ino -> namespace_dir_stats; by upserts only */
    NAMESPACE_TARGET = 'T',         /* target u32 -> proto_target */
    NAMESPACE_TARGET_UUID = 'U',    /* uuid -> namespace_id */
    NAMESPACE_TRASH = 'V',          /* owner u32, ino -> namespace_trash */
    NAMESPACE_XATTR = 'X',          /* ino, name -> bytes; ino -> namespace_xattrs */
    NAMESPACE_AUDIT = 'a',          /* - -> namespace_audit */
    NAMESPACE_CRED = 'c',           /* session, cred u32 -> namespace_cred */
    NAMESPACE_CRED_INDEX = 'd',     /* session, uid u32, gid u32, crc u32 -> namespace_id */
    NAMESPACE_FENCE = 'f',          /* session -> namespace_fence */
    NAMESPACE_GARBAGE = 'g',        /* data id -> namespace_garbage */
    NAMESPACE_LEAP = 'h',           /* first data id -> namespace_leap */
    NAMESPACE_SUSPECT = 'i',        /* data id -> namespace_suspect */
    NAMESPACE_LOCK = 'k',           /* ino, session, kind u8, owner, start -> namespace_lock */
    NAMESPACE_SLOT = 'l',           /* session, slot u32 -> namespace_slot */
    NAMESPACE_SESSION_LOCK = 'm',   /* session, ino -> - */
    NAMESPACE_LOCKS = 'n',          /* session -> u64: how many it has; by upserts only */
    NAMESPACE_ORPHAN = 'o',         /* ino, session -> namespace_orphan */
    NAMESPACE_SESSION_ORPHAN = 'p', /* session, ino -> - */
    NAMESPACE_SESSION = 's',        /* session -> namespace_session */
    NAMESPACE_TRIM = 't',           /* ino -> namespace_trim */
    NAMESPACE_CLIENT = 'u',         /* client uuid -> namespace_id of its newest session */
    NAMESPACE_TRASH_EXPIRY = 'v',   /* expiry ns, ino -> - */
    NAMESPACE_WOPEN = 'w',          /* ino, session -> namespace_wopen */
    NAMESPACE_SESSION_WOPEN = 'x',  /* session, ino -> - */
    NAMESPACE_OBLIGATIONS = 'y',    /* session -> u64: how many of x and p; by upserts only */
};

/* How a look for data that belongs to nothing has ended; on disk: append only. */
enum namespace_audit_outcome {
    NAMESPACE_AUDIT_GOING,   /* not at all yet */
    NAMESPACE_AUDIT_DONE,    /* every target was looked at, up to `missed` */
    NAMESPACE_AUDIT_STRANGE, /* a target has data ids that were never given: nothing was judged */
    NAMESPACE_AUDIT_FAILED,  /* the metadata could not be read */
};

/* Of an access control list; in keys. */
enum namespace_acl_kind { NAMESPACE_ACL_ACCESS = 1, NAMESPACE_ACL_DEFAULT = 2 };

#define NAMESPACE_KEY_MAX 288u
struct namespace_key {
    uint8_t bytes[NAMESPACE_KEY_MAX];
    size_t len;
};
/* Appending big-endian numbers keeps the order of the ids. */
struct namespace_key namespace_key(enum namespace_range range);
struct namespace_key namespace_key_u64(enum namespace_range range, uint64_t a);
struct namespace_key namespace_key_u64s(enum namespace_range range, uint64_t a, uint64_t b);
struct namespace_key namespace_key_name(enum namespace_range range, uint64_t a,
                                        struct proto_bytes name);
void namespace_key_add_u32(struct namespace_key *k, uint32_t v);
void namespace_key_add_u64(struct namespace_key *k, uint64_t v);
void namespace_key_add_bytes(struct namespace_key *k, struct proto_bytes b);
/* The least key that does not begin with `k`; k is not all 0xff. */
struct namespace_key namespace_key_end(const struct namespace_key *k);
static inline struct kv_slice namespace_key_slice(const struct namespace_key *k)
{
    return kv_slice_of(k->bytes, k->len);
}
/* The u64 (u32) at `offset` of a key; 0 when the key is too short. */
uint64_t namespace_key_read_u64(struct kv_slice key, size_t offset);
uint32_t namespace_key_read_u32(struct kv_slice key, size_t offset);
