#include "namespace/query.h"

#include "namespace/path_priv.h"

/* The names of an inode: where it is, or, when it has had several, its link records. */

#define NAMES_MAX 64u
#define NAMES_PATH_MAX 4095u

/* From the names in the inodes above; of a long one the end. */
static int names_path(const struct namespace_view *v, uint64_t ino, struct proto_bytes *ret)
{
    char text[NAMES_PATH_MAX];
    struct namespace_path path = namespace_path_over(text, sizeof text);
    for (unsigned depth = 0; ino != PROTO_ROOT_INO && !path.cut; depth++) {
        struct namespace_inode n;
        int rc = depth >= NAMESPACE_DEPTH_MAX ? -EUCLEAN : namespace_view_inode(v, ino, &n);
        if (rc < 0) {
            return rc == -ENOENT ? -EUCLEAN : rc;
        }
        namespace_path_front(&path, n.name);
        ino = n.parent;
    }
    struct proto_bytes whole = namespace_path_end(&path);
    const uint8_t *copy = mem_arena_dup(v->arena, whole.at, whole.len);
    *ret = proto_bytes_of(copy, whole.len);
    return copy == NULL ? -ENOMEM : 0;
}

static int names_add(const struct namespace_view *v, uint64_t parent, struct proto_bytes name,
                     struct proto_names_reply *ret)
{
    struct proto_inode_name *n = &ret->names.at[ret->names.count];
    const uint8_t *copy = mem_arena_dup(v->arena, name.at, name.len);
    if (copy == NULL) {
        return -ENOMEM;
    }
    *n = (struct proto_inode_name){.parent = parent, .name = proto_bytes_of(copy, name.len)};
    int rc = names_path(v, parent, &n->path);
    ret->names.count += rc == 0 ? 1 : 0;
    return rc;
}

/* Goes on after a missing record, so that one fetch brings all. */
static int names_of_links(const struct namespace_view *v, const struct proto_names_request *q,
                          size_t max, struct proto_names_reply *ret)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_LINK, q->ino);
    struct namespace_key from = namespace_key_u64s(NAMESPACE_LINK, q->ino, q->after_parent);
    struct namespace_scan scan;
    bool needs = false;
    namespace_key_add_bytes(&from, q->after_name);
    namespace_key_add_bytes(&from, proto_bytes_of("", 1)); /* the next that there can be */
    int rc = namespace_scan_init(&scan, v, &prefix, q->after_parent == 0 ? NULL : &from);
    for (size_t looked = 0; rc == 0 && (rc = namespace_scan_next(&scan)) == 1; looked++) {
        struct kv_slice key = scan.it->key;
        if (looked == max) {
            ret->more = true;
            rc = 0;
            break;
        }
        rc = names_add(v, namespace_key_read_u64(key, 9),
                       proto_bytes_of((const uint8_t *)key.at + 17, key.len - 17), ret);
        needs = needs || rc == -ERR_need;
        rc = rc == -ERR_need ? 0 : rc;
    }
    namespace_scan_fini(&scan);
    return rc < 0 ? rc : needs ? -ERR_need : 0;
}

int namespace_names(const struct namespace_view *v, const struct proto_names_request *q,
                    struct proto_names_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode n;
    *ret = (struct proto_names_reply){0};
    size_t max = q->max == 0 ? NAMES_MAX : base_min(q->max, NAMES_MAX);
    int a = namespace_view_cred(v, q->caller.session, q->caller.cred, &cred);
    int rc = namespace_view_both(a, namespace_view_inode(v, q->ino, &n));
    if (rc < 0) {
        return rc;
    }
    if (cred.uid != 0) {
        return -EPERM;
    }
    ret->names.at = mem_arena_alloc(v->arena, max * sizeof *ret->names.at);
    if (ret->names.at == NULL) {
        return -ENOMEM;
    }
    if ((n.flags & PROTO_INODE_LINKED) != 0) {
        return names_of_links(v, q, max, ret);
    }
    bool none = q->ino == PROTO_ROOT_INO || n.nlink == 0 || q->after_parent != 0;
    return none ? 0 : names_add(v, n.parent, n.name, ret);
}
