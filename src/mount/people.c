#include "mount/call_priv.h"

#include <linux/capability.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Who asks: the kernel tells user, group and process; the other groups of that process have to be
 * looked up. What was found counts for a moment, so that a program that does much is not looked up
 * for each of its calls: as long as a change of groups may take to be seen.
 */

#define PEOPLE 256u
#define PEOPLE_NS UINT64_C(500000000)
#define PEOPLE_GROUPS 65536u

struct mount_person {
    int64_t pid;
    uint32_t uid, gid;
    uint64_t until_ns;
    struct opendfs_identity *as; /* NULL: free */
};
struct mount_people {
    struct mount *mount;
    struct mount_person person[PEOPLE];
    uint32_t groups[PEOPLE_GROUPS];
};

int mount_people_new(struct mount *m, struct mount_people **ret)
{
    struct mount_people *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        return -ENOMEM;
    }
    p->mount = m;
    *ret = p;
    return 0;
}

struct mount_people *mount_people_free(struct mount_people *p)
{
    for (size_t i = 0; p != NULL && i < PEOPLE; i++) {
        client_identity_put(p->mount->fs, p->person[i].as);
    }
    mem_free(p);
    return NULL;
}

/* The identity is lent: it is taken again by who needs it longer than the call that asks. */
int mount_people_find(struct mount_call *c, struct opendfs_identity **ret)
{
    struct mount *m = c->mount;
    struct mount_people *p = m->people;
    uint64_t now = loop_tick_ns(m->env.loop);
    struct mount_person *who = &p->person[((uint64_t)c->pid * 31 + c->uid) % PEOPLE];
    bool same = who->as != NULL && who->pid == c->pid && who->uid == c->uid && who->gid == c->gid;
    if (!same || now >= who->until_ns) {
        struct opendfs_identity *as;
        size_t n = mount_fuse_groups(c, p->groups, PEOPLE_GROUPS);
        int rc = client_identity_get(m->fs, c->uid, c->gid, p->groups, n, &as);
        if (rc < 0) {
            return rc;
        }
        client_identity_put(m->fs, who->as);
        *who = (struct mount_person){
            .pid = c->pid, .uid = c->uid, .gid = c->gid, .until_ns = now + PEOPLE_NS, .as = as};
    }
    *ret = client_identity_again(who->as);
    return 0;
}

/* Root may lack it, as in most containers; of who is gone, and of the kernel itself, nobody asks.
 */
bool mount_people_administrates(const struct mount_call *c)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3,
                                            .pid = (int)c->pid};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {0};
    if (c->uid != 0 || c->pid == 0 || syscall(SYS_capget, &head, sets) < 0) {
        return c->uid == 0;
    }
    return (sets[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0;
}
