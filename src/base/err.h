/*
 * base/err.h -- one int for every outcome: 0 or positive is success, negative is an error.
 *
 * System calls speak -errno; our own codes extend errno as a tree. Each failure site gets a leaf;
 * callers branch on classes with err_is(), never on another folder's leaf. The numbers go over the
 * wire and into the Raft log: append only, never renumber.
 */
#pragma once

#include "base/base.h"

#include <errno.h>

/* X(parent, name, number, text): number + 4096 is the code. */
#define ERRORS(X)                                                                         \
    X(EAGAIN, redirect, 1, "ask another node")                                            \
    X(ERR_redirect, not_leader, 2, "this node does not lead")                             \
    X(EIO, corrupt, 3, "data failed verification")                                        \
    X(ERR_corrupt, short_msg, 4, "message ends inside a field")                           \
    X(ERR_corrupt, bad_magic, 5, "not the expected kind of record (bad magic number)")    \
    X(ERR_corrupt, bad_crc, 6, "checksum does not match")                                 \
    X(ERR_corrupt, bad_version, 7, "format version is not supported")                     \
    X(ERR_corrupt, bad_length, 8, "length is outside its limits")                         \
    X(ERR_corrupt, bad_value, 9, "value is outside its limits")                           \
    X(EAGAIN, need, 10, "needs data that is not in memory yet")                           \
    X(EAGAIN, busy, 11, "busy, try again later")                                          \
    X(EIO, unknown_outcome, 12, "outcome is unknown")                                     \
    X(EINVAL, config, 13, "bad configuration")                                            \
    X(EPERM, wrong_cluster, 14, "belongs to another cluster")                             \
    X(EPROTO, protocol, 15, "peer broke the protocol")                                    \
    X(ECONNRESET, closed, 16, "connection closed")                                        \
    X(ETIMEDOUT, deadline, 17, "deadline passed")                                         \
    X(ECANCELED, cancelled, 18, "cancelled by the caller")                                \
    X(ESTALE, session_expired, 19, "session has expired")                                 \
    X(EPROTO, bad_sequence, 20, "request sequence of the slot does not fit")              \
    X(EAGAIN, stale_epoch, 21, "chain epoch of the sender is older")                      \
    X(EAGAIN, ahead_epoch, 22, "chain epoch of the sender is newer")                      \
    X(EAGAIN, not_serving, 23, "target does not serve this chain")                        \
    X(ERR_not_serving, not_head, 24, "target is not the head of this chain")              \
    X(EAGAIN, pending, 25, "an update of the chunk is not committed yet")                 \
    X(EAGAIN, bad_data, 26, "payload does not match its checksums")                       \
    X(ENOSPC, no_space, 27, "no space on a serving target")                               \
    X(ESTALE, gone, 28, "data was removed")                                               \
    X(ESTALE, stale_trunc, 29, "truncate generation is older than the chunk's")           \
    X(EALREADY, stale_request, 30, "an older duplicate of a request")                     \
    X(EIO, lost, 31, "unsynced data was lost with the machines that held it")             \
    X(EAGAIN, need_whole, 32, "needs the whole chunk, not a delta")                       \
    X(EIO, diverged, 33, "copies of a chunk diverged")                                    \
    X(EAGAIN, different, 34, "copy has another identity")                                 \
    X(EACCES, bad_capability, 35, "capability is forged, expired or does not cover this") \
    X(ERR_bad_capability, capability_expired, 36, "capability has expired")               \
    X(EPROTO, version, 37, "no common protocol version")                                  \
    X(EOPNOTSUPP, unknown_message, 38, "message is not known here")                       \
    X(EAGAIN, unavailable, 39, "no node of the service answers")                          \
    X(EAGAIN, dark, 40, "no serving copy of this data is available now")                  \
    X(EBUSY, in_use, 41, "directory is in use by another process")                        \
    X(EIO, failed_before, 42, "an earlier write error makes this read-only")              \
    X(EAGAIN, shutting_down, 43, "server is shutting down")                               \
    X(EAGAIN, waiting_row, 44, "waits for its chain table row")                           \
    X(EAGAIN, log_full, 45, "the disk of the metadata is full, nothing was changed")      \
    X(ENOSPC, no_log_space, 46, "the disk of the metadata is full")                       \
    X(EHOSTUNREACH, unknown_host, 47, "the host name is not known")                       \
    X(EAGAIN, no_name_service, 48, "the host name cannot be looked up now")               \
    X(ENFILE, many_credentials, 49, "the session has all the users and groups it may")    \
    X(EINVAL, many_groups, 50, "more groups than a user may have here (16,384)")          \
    X(ESTALE, gone_since, 51, "done, and somebody has removed it since")

#define ERR_BASE 4096
#define ERR_ENUM(parent, name, nr, text) ERR_##name = ERR_BASE + (nr),
enum { ERRORS(ERR_ENUM) ERR_END };

/* Context of an error for the person who reads it. Caller-owned, never allocates. */
struct err {
    int code; /* negative, or 0 when nothing was set */
    char text[240];
};

/* True when `rc` (negative) is `class_code` (positive) or lies below it in the tree. */
bool err_is(int rc, int class_code);

/* The errno (positive) nearest above `rc` in the tree: what POSIX callers are told. 0 for rc >= 0.
 */
int err_to_errno(int rc);

/* Text of the code alone ("this node does not lead", "No space left on device"). Static or
 * thread-local. */
const char *err_text(int rc);

/* Name of the code alone: "ERR_not_leader", "ENOSPC". Static storage. */
const char *err_name(int rc);

/* Writes "<formatted>: <text of code>" into `e` (which may be NULL) and returns `code`. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "<formatted>: " in front of what `e` already says; sets it from e->code when it is empty. */
int err_prefix(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The message to show: e->text if set, else err_text(rc). Never NULL. */
const char *err_message(const struct err *e, int rc);
