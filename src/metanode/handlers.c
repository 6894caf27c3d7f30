#include "metanode/metanode_priv.h"

/* Who handles what. Roles are those of proto's tables. */
#define METANODE_HANDLER(name, fn)                 \
    {                                              \
        .opcode = PROTO_OP_##name, .request = (fn) \
    }

const struct peer_handler metanode_handlers[] = {
    METANODE_HANDLER(create, metanode_mutate),
    METANODE_HANDLER(link, metanode_mutate),
    METANODE_HANDLER(unlink, metanode_mutate),
    METANODE_HANDLER(rmdir, metanode_mutate),
    METANODE_HANDLER(rename, metanode_mutate),
    METANODE_HANDLER(setattr, metanode_mutate),
    METANODE_HANDLER(setxattr, metanode_mutate),
    METANODE_HANDLER(removexattr, metanode_mutate),
    METANODE_HANDLER(wopen, metanode_mutate),
    METANODE_HANDLER(commit, metanode_mutate),
    METANODE_HANDLER(release, metanode_mutate),
    METANODE_HANDLER(lease_return, metanode_mutate),
    METANODE_HANDLER(append_turn, metanode_mutate),
    METANODE_HANDLER(append_done, metanode_mutate),
    METANODE_HANDLER(trash_restore, metanode_mutate),
    METANODE_HANDLER(trash_purge, metanode_mutate),
    METANODE_HANDLER(lookup, metanode_query),
    METANODE_HANDLER(walk, metanode_query),
    METANODE_HANDLER(getattr, metanode_query),
    METANODE_HANDLER(readdir, metanode_query),
    METANODE_HANDLER(readlink, metanode_query),
    METANODE_HANDLER(open, metanode_query),
    METANODE_HANDLER(read_inline, metanode_query),
    METANODE_HANDLER(getxattr, metanode_query),
    METANODE_HANDLER(listxattr, metanode_query),
    METANODE_HANDLER(capability_renew, metanode_query),
    METANODE_HANDLER(statfs, metanode_query),
    METANODE_HANDLER(trash_list, metanode_query),
    METANODE_HANDLER(cluster_map, metanode_query),
    METANODE_HANDLER(session_open, metanode_session_open),
    METANODE_HANDLER(session_resume, metanode_session_resume),
    METANODE_HANDLER(session_close, metanode_session_close),
    METANODE_HANDLER(credential, metanode_credential),
    METANODE_HANDLER(slot_cancel, metanode_slot_cancel),
    METANODE_HANDLER(renew, metanode_renew),
    METANODE_HANDLER(reclaim, metanode_reclaim),
    METANODE_HANDLER(inval_done, metanode_inval_done),
    METANODE_HANDLER(register, metanode_register),
    METANODE_HANDLER(heartbeat, metanode_heartbeat),
    METANODE_HANDLER(exited, metanode_exited),
    METANODE_HANDLER(status, metanode_status),
    METANODE_HANDLER(stats, metanode_stats),
    METANODE_HANDLER(shutdown, metanode_shutdown),
    METANODE_HANDLER(target_list, metanode_target_list),
    METANODE_HANDLER(target_add, metanode_target_change),
    METANODE_HANDLER(target_set, metanode_target_change),
    METANODE_HANDLER(class_create, metanode_class_create),
    METANODE_HANDLER(fsck, metanode_fsck),
};
const size_t metanode_handler_count = ARRAY_COUNT(metanode_handlers);
