/* proto/values.h -- the numbers that messages carry. They go over the wire and into logs: append
 * only. */
#pragma once

#include "base/base.h"

#define PROTO_VERSION_MIN 1u
#define PROTO_VERSION_MAX 1u
#define PROTO_FEATURES UINT64_C(0)
#define PROTO_CELL_BYTES 4096u
#define PROTO_CELLS_MAX 1024u      /* of one message: 4 MiB of data */
#define PROTO_BATCH_MAX 64u        /* small reads in one message, */
#define PROTO_BATCH_CELLS 16u      /* of one of them, */
#define PROTO_BATCH_CELLS_ALL 256u /* of all of them */
#define PROTO_ROOT_INO UINT64_C(1)

/* Who speaks. */
#define PROTO_ROLE_CLIENT 1u
#define PROTO_ROLE_TARGET 2u /* a worker of a data node */
#define PROTO_ROLE_META 4u
#define PROTO_ROLE_MASTER 8u /* the master process of a data node */
#define PROTO_ROLE_ADMIN 16u
#define PROTO_ROLE_ANY 31u

enum proto_inode_type {
    PROTO_INODE_FILE = 1,
    PROTO_INODE_DIRECTORY = 2,
    PROTO_INODE_SYMLINK = 3,
    PROTO_INODE_FIFO = 4,
    PROTO_INODE_SOCKET = 5,
    PROTO_INODE_CHAR = 6,
    PROTO_INODE_BLOCK = 7,
};
#define PROTO_INODE_LINKED 1u /* has or had several links: only INO(i) covers it */
#define PROTO_INODE_INLINE 2u /* contents are in the metadata */
#define PROTO_INODE_APPEND 4u /* chattr +a */
#define PROTO_INODE_IMMUTABLE 8u
#define PROTO_INODE_HAS_ACL 16u /* named users or groups, or a mask: its mode does not say all */
#define PROTO_INODE_HAS_DEFAULT_ACL 32u /* a directory: new files inherit */
#define PROTO_INODE_HAS_XATTR 64u       /* other extended attributes than access lists */
#define PROTO_INODE_TRASH 128u          /* without a name, but kept to be restored */

#define PROTO_RIGHT_READ 1u
#define PROTO_RIGHT_WRITE 2u
#define PROTO_RIGHT_EXEC \
    4u /* of `open`, with READ: asked for in its place; never in capabilities */

enum proto_object { PROTO_OBJECT_DIR = 1, PROTO_OBJECT_INO = 2 };
#define PROTO_GRANT_NAMES 1u
#define PROTO_GRANT_ATTR 2u
#define PROTO_GRANT_COMPLETE 4u
#define PROTO_GRANT_NO_KERNEL 8u
#define PROTO_GRANT_REMOTE_WRITER 16u

enum proto_open_mode { PROTO_OPEN_NONE, PROTO_OPEN_R, PROTO_OPEN_W, PROTO_OPEN_S };

#define PROTO_CREATE_EXCLUSIVE 1u
#define PROTO_CREATE_WOPEN 2u
#define PROTO_CREATE_ORPHAN 4u /* O_TMPFILE: `name` is only checked, none is made */
#define PROTO_CREATE_HAS_DATA 8u
#define PROTO_CREATE_APPEND 16u /* with WOPEN: as `append` of open */

#define PROTO_SET_MODE 1u
#define PROTO_SET_UID 2u
#define PROTO_SET_GID 4u
#define PROTO_SET_SIZE 8u
#define PROTO_SET_ATIME 16u
#define PROTO_SET_MTIME 32u
#define PROTO_SET_CTIME 64u
#define PROTO_SET_FLAGS 128u
#define PROTO_SET_CLASS 256u
#define PROTO_SET_ATIME_NOW 512u /* the server's clock; wins over ATIME */
#define PROTO_SET_MTIME_NOW 1024u
#define PROTO_SET_KILL_PRIV 2048u /* drop set-id bits as write(2) of others than root does */

#define PROTO_QUOTA_BYTES 1u
#define PROTO_QUOTA_FILES 2u
#define PROTO_QUOTA_GRACE 4u
#define PROTO_QUOTA_CLEAR 8u /* all limits, first */
#define PROTO_SET_RETENTION 4096u
#define PROTO_RETENTION_NONE UINT32_MAX /* `retention_s` of a directory: removed is gone */

#define PROTO_RENAME_NOREPLACE 1u
#define PROTO_RENAME_EXCHANGE 2u
#define PROTO_XATTR_CREATE 1u
#define PROTO_XATTR_REPLACE 2u
#define PROTO_WANT_DATA 1u  /* inline contents too */
#define PROTO_WANT_GRANT 2u /* caching grants too */
#define PROTO_WANT_RETENTION 4u
#define PROTO_TRASH_ANYBODY UINT32_MAX /* `owner` of `trash_list` */
#define PROTO_COMMIT_RELEASE 1u
#define PROTO_COMMIT_HAS_DATA 2u
#define PROTO_COMMIT_APPEND 4u     /* data goes to the end of the inline contents */
#define PROTO_COMMIT_TIMES 8u      /* mtime and ctime count; else the server's clock */
#define PROTO_COMMIT_TORN 16u      /* what is in chunks does not count: the contents stay inline */
#define PROTO_COMMIT_TOLD 32u      /* times were handed over in an ack: those on record stay */
#define PROTO_COMMIT_KILL_PRIV 64u /* who wrote is not root: set-id bits go, whoever tells it */
#define PROTO_COMMIT_OPEN 128u     /* with RELEASE: and it stays open, as by `open` for reading */
#define PROTO_COMMIT_OUTSIDER 256u /* with KILL_PRIV: nor in its group: set-gid goes, too */

#define PROTO_SESSION_STATEFUL 1u
#define PROTO_SESSION_SUPERVISED 2u
#define PROTO_SESSION_OLD_CLOSED 4u /* the descriptor of `replaces` is closed */

enum proto_inval_kind { PROTO_INVAL_NAME = 1, PROTO_INVAL_ATTR = 2 };
#define PROTO_INVAL_UNLINK 1u
#define PROTO_INVAL_MOVE 2u
#define PROTO_INVAL_WOPEN 4u
#define PROTO_INVAL_TIMES 8u /* who writes hands over the times of what was not committed */
#define PROTO_ACK_OPEN 1u
#define PROTO_ACK_KEEP 2u
#define PROTO_ACK_DEFER 4u
#define PROTO_ACK_HAS_TIMES 8u

/* Who shares a file by them: POSIX and those of open files are of one kind, flock(2) is another. */
enum proto_lock_kind { PROTO_LOCK_POSIX = 1, PROTO_LOCK_FLOCK = 2 };
enum proto_lock_type { PROTO_LOCK_NONE, PROTO_LOCK_READ, PROTO_LOCK_WRITE };
#define PROTO_LOCK_LAST UINT64_C(0x7fffffffffffffff)
enum proto_lock_outcome {
    PROTO_LOCK_GRANTED = 1,
    PROTO_LOCK_CONFLICT = 2,    /* and it was not to wait */
    PROTO_LOCK_DEADLOCK = 3,    /* those whom it would wait for wait for its owner */
    PROTO_LOCK_INTERRUPTED = 4, /* `cancel`, and it had not been granted */
};

enum proto_member_state {
    PROTO_MEMBER_SERVING = 1,
    PROTO_MEMBER_SYNCING = 2,
    PROTO_MEMBER_WAITING = 3,
    PROTO_MEMBER_LAST_SERVING = 4,
    PROTO_MEMBER_OFFLINE = 5,
};
enum proto_target_state { PROTO_TARGET_UNKNOWN, PROTO_TARGET_UP, PROTO_TARGET_DOWN };
/* What is to become of a target. All but NORMAL: it keeps no copies. */
enum proto_target_plan {
    PROTO_PLAN_NORMAL,
    PROTO_PLAN_DRAIN,
    PROTO_PLAN_REPLACE, /* as DRAIN, then REMOVED; another target gets what it has */
    PROTO_PLAN_REMOVE,  /* as DRAIN, then */
    PROTO_PLAN_REMOVED, /* no chain knows it any more; it is not let in again */
};
#define PROTO_TARGET_SET_WEIGHT 1u
#define PROTO_TARGET_SET_RACK 2u
#define PROTO_TARGET_SET_LABELS 4u
enum proto_failure_domain { PROTO_DOMAIN_TARGET = 1, PROTO_DOMAIN_HOST = 2, PROTO_DOMAIN_RACK = 3 };
enum proto_engine { PROTO_ENGINE_EXTENT = 1, PROTO_ENGINE_FILE = 2, PROTO_ENGINE_RAM = 3 };
/* What a worker says of one chain; registration and lost leases say the rest (chain.md 4). */
enum proto_report { PROTO_REPORT_OK = 1, PROTO_REPORT_SYNCED = 2, PROTO_REPORT_GONE = 3 };
/* What a member has of a chain: all that there was when it was there last, or only a part. */
enum proto_held { PROTO_HELD_UNKNOWN = 0, PROTO_HELD_WHOLE = 1, PROTO_HELD_PART = 2 };
/* The most urgent first. */
enum proto_report_kind { PROTO_REPORT_DAMAGE = 1, PROTO_REPORT_RESYNCED = 2 };
/* Of a chunk; a greater number outweighs a smaller one where reports are told as one. */
enum proto_damage { PROTO_DAMAGE_REPAIRED = 1, PROTO_DAMAGE_FOUND = 2, PROTO_DAMAGE_NO_COPY = 3 };
enum proto_audit_action { PROTO_AUDIT_START = 1, PROTO_AUDIT_RELEASE = 2 };
enum proto_chain_action { PROTO_CHAIN_PROMOTE = 1, PROTO_CHAIN_DISCARD = 2 };
enum proto_format { PROTO_FORMAT_TEXT = 1, PROTO_FORMAT_JSON = 2, PROTO_FORMAT_PROMETHEUS = 3 };

enum proto_write_kind {
    PROTO_WRITE_AT = 1,
    PROTO_WRITE_APPEND = 2,
    PROTO_WRITE_SET_LENGTH = 3,
    PROTO_WRITE_CLEAR = 4, /* nothing of it is left; in its turn, as any write: no truncation */
};
enum proto_forward_form { PROTO_FORWARD_DELTA = 1, PROTO_FORWARD_WHOLE = 2 };
#define PROTO_READ_STREAM 1u /* large, cold, in order: bypass the page cache */
#define PROTO_READ_CHECK 2u  /* it did not fit its CRCs: look at what is stored, repair it */
#define PROTO_CHUNK_TOMBSTONE 1u
#define PROTO_CHUNK_DAMAGED 2u
#define PROTO_CHUNK_DEDUPE_OVERFLOW 4u
