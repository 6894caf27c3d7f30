/*
 * namespace/namespace.h -- the deterministic state machine of the metadata over kv/.
 *
 * Every change is a command of the replicated log (record.h: namespace_command). Applying the same
 * log gives the same records on every replica: time, random numbers and what other clients said are
 * in the command; ids come from counters in the state; nothing else is looked at. An object's
 * version is the number of the command that changed it last.
 *
 * namespace_apply() runs on the writer's thread of kv and never waits. A mutation is planned on a
 * snapshot (all reads) into a batch (all writes) and committed with its place in the log and, for
 * clients, its answer in the session's slot: a retry after any crash is answered, not repeated.
 */
#pragma once

#include "namespace/view.h"

struct namespace;

struct namespace_options {
    struct kv *kv;          /* must outlive it */
    size_t arena_max_bytes; /* of one command; 0: 32 MiB */
};
NODISCARD int namespace_new(const struct namespace_options *opt, struct namespace **ret);
struct namespace *namespace_free(struct namespace *ns);
DEFINE_FREEP(namespace)

/* A command's place in the log. kv's applied index becomes `index` with the last one of an entry;
 * an entry that was cut by a restart is applied again and its first parts are skipped. */
struct namespace_entry {
    uint64_t index; /* above 0 */
    uint32_t part;  /* from 0 */
    bool last;      /* part of that entry */
    const void *bytes;
    size_t len;
};

#define NAMESPACE_CHANGES_MAX 8u
/* Which quota has refused a mutation (rc -EDQUOT), for people. */
enum namespace_limit {
    NAMESPACE_LIMIT_NONE,
    NAMESPACE_LIMIT_BYTES_HARD,
    NAMESPACE_LIMIT_BYTES_SOFT, /* exceeded for longer than the grace time */
    NAMESPACE_LIMIT_FILES_HARD,
    NAMESPACE_LIMIT_FILES_SOFT,
};
#define NAMESPACE_PATH_SIZE 160u
struct namespace_refusal {
    enum namespace_limit limit;
    uint64_t value;
    char path[NAMESPACE_PATH_SIZE]; /* its end, behind "...", if it is too long */
};

/*
 * What became of a mutation. Lists lie in the structure itself.
 *   rc        what the caller is told; also stored in the slot, except for class EAGAIN (nothing
 *             happened, the same sequence may run later), -ERR_bad_sequence, -ERR_session_expired
 *             and -EPROTO
 *   result    as stored; its list is not used here (see `change`)
 *   replayed  the stored answer of an earlier run: attributes are those of now
 */
struct namespace_reply {
    int rc;
    bool replayed;
    uint16_t kind; /* of the command */
    struct namespace_result result;
    struct proto_attr attr;     /* of result.ino, where the opcode has it */
    struct proto_layout layout; /* the same */
    uint64_t data_version;
    bool limited; /* of what a writer is told: a quota */
    uint64_t size_limit;
    struct namespace_refusal refusal;
    struct proto_change change[NAMESPACE_CHANGES_MAX];
    uint64_t change_parent[NAMESPACE_CHANGES_MAX]; /* before; exact for what is not LINKED */
    size_t change_count;
    uint64_t session; /* SESSION_OPEN: new or found; of a client's mutation: whose */
    uint32_t slots;
    uint32_t id; /* CREDENTIAL: cred; TARGET_PUT: target; TABLE_PUT: class */
    uint64_t map_epoch;
    bool was_done; /* SLOT_CANCEL; `result` is the stored one then */
    /* What the leader has to see to now. */
    uint64_t removed_data_id; /* new garbage; 0: none. The newest, if several */
    uint64_t trim_ino;        /* new trim record; 0: none */
    uint64_t fenced_session;  /* new fence; 0: none */
    uint64_t holder;          /* append_turn, setattr were busy: with this session, or 0 */
    bool moved;               /* busy: the name stands for another file than `victim` */
    int64_t trash_expiry_ns;  /* of a file that has gone to the trash; 0: none */
};

/*
 * 0: done, see reply->rc; -EALREADY there: it was skipped. -ERR_need: nothing has changed; fetch
 * `need` and call again. Any other error is of this machine, not of the command (-ENOMEM, also of
 * the engine's snapshots; -ERR_busy: kv_room(), -ENOBUFS, -ECANCELED: a snapshot was given up,
 * class EIO): nothing has changed; the same entry must be applied before any later one. `need` is
 * the caller's to release, when it has read the reply. Every CHECK is on the caller's order of
 * entries.
 */
NODISCARD int namespace_apply(struct namespace *ns, const struct namespace_entry *e,
                              struct kv_need *need, struct namespace_reply *reply);

/*
 * The same function on a snapshot, changing nothing: what the command would be told now, but for
 * -ELOOP and -EUCLEAN of directories that move meanwhile. `ns`: what it remembers may be looked at,
 * on its thread; NULL: any thread that may read the snapshot. `batch` is scratch memory, cleared
 * before and after.
 */
NODISCARD int namespace_check(const struct namespace *ns, const struct namespace_view *v,
                              const void *bytes, size_t len, struct kv_batch *batch,
                              struct namespace_reply *reply);

/*
 * Encodes what the opcode of a client's mutation answers, with the caller's trailer; `capability`
 * may be NULL. For failures encode a proto_failure instead. -EMSGSIZE; -EINVAL for other kinds.
 */
NODISCARD int namespace_reply_encode(const struct namespace_reply *reply,
                                     const struct proto_trailer *trailer,
                                     const struct proto_capability *capability,
                                     struct wire_writer *w);

/*
 * A number over all records, equal exactly when two replicas hold the same, whatever their engines.
 * Runs in steps of at most `max_records` so that the need list stays small: start with all zero,
 * call until `done`. -ERR_need: fetch, release, call again on the same snapshot.
 */
struct namespace_digest {
    uint64_t value, records;
    struct namespace_key after;
    bool done;
};
NODISCARD int namespace_digest_step(const struct namespace_view *v, size_t max_records,
                                    struct namespace_digest *d);
