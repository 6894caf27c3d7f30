#include "namespace/known.h"

#include "base/mem.h"
#include "namespace/query.h"

#include <string.h>

/* Callers whose records need not be read for each of their operations. */

void namespace_known_fini(struct namespace_known *k)
{
    mem_free(k->groups);
    *k = (struct namespace_known){0};
}

static int namespace_known_copy(struct namespace_known *k, const struct namespace_cred *from)
{
    size_t count = from->groups.count;
    k->who = *from;
    k->who.groups = (struct proto_u32s){0};
    if (count > 0) {
        k->groups = mem_alloc(count * sizeof *k->groups);
        if (k->groups == NULL) {
            return -ENOMEM;
        }
        memcpy(k->groups, from->groups.at, count * sizeof *k->groups);
        k->who.groups = (struct proto_u32s){.at = k->groups, .count = count};
    }
    return 0;
}

int namespace_known_load(const struct namespace_view *v, uint64_t session, uint32_t cred,
                         struct namespace_known *ret)
{
    struct namespace_session s;
    struct namespace_cred who = {0};
    int found = namespace_view_session(v, session, &s);
    int rc = cred == 0 ? 0 : namespace_view_cred_of(v, session, cred, &who);
    if (found == -ERR_need || rc == -ERR_need) {
        return -ERR_need;
    }
    if (found < 0 || rc < 0) {
        return found == -ENOENT ? -ERR_session_expired : found < 0 ? found : rc;
    }
    namespace_known_fini(ret);
    rc = namespace_known_copy(ret, &who);
    if (rc == 0) {
        ret->session = session;
        ret->cred = cred;
        ret->slots = s.slots;
    }
    return rc;
}

static struct namespace_known *namespace_known_place(struct namespace_known_table *t,
                                                     uint64_t session, uint32_t cred)
{
    return &t->at[(session * UINT64_C(31) + cred) % NAMESPACE_KNOWN_MAX];
}

int namespace_known_get(struct namespace_known_table *t, const struct namespace_view *v,
                        uint64_t session, uint32_t cred, const struct namespace_known **ret)
{
    struct namespace_known *k = namespace_known_place(t, session, cred);
    int rc = 0;
    if (k->session != session || k->cred != cred) {
        rc = namespace_known_load(v, session, cred, k);
    }
    if (rc == 0) {
        *ret = k;
    }
    return rc;
}

void namespace_known_clear(struct namespace_known_table *t)
{
    for (size_t i = 0; i < NAMESPACE_KNOWN_MAX; i++) {
        namespace_known_fini(&t->at[i]);
    }
}
