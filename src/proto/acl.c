#include "proto/acl.h"

#define ACL_VERSION 2u
#define ACL_RIGHTS 7u
#define ACL_ENTRY_BYTES 8u
#define ACL_NO_ID UINT32_MAX

/* The tags of the format. */
enum {
    ACL_USER_OBJ = 0x01,
    ACL_USER = 0x02,
    ACL_GROUP_OBJ = 0x04,
    ACL_GROUP = 0x08,
    ACL_MASK = 0x10,
    ACL_OTHER = 0x20,
};

struct acl_entry {
    uint16_t tag, rights;
    uint32_t id;
};

/* What may come next: a set of tags. */
struct acl_parse {
    struct proto_acl *acl;
    uint32_t expected;
    bool done;
};

static bool acl_is_named(uint16_t tag)
{
    return tag == ACL_USER || tag == ACL_GROUP;
}

/* What may follow an entry of this tag, when nobody was named so far. 0: there is no such tag. */
static uint32_t acl_follow(uint16_t tag)
{
    switch (tag) {
    case ACL_USER_OBJ:
    case ACL_USER:
        return ACL_USER | ACL_GROUP_OBJ;
    case ACL_GROUP_OBJ:
    case ACL_GROUP:
        return ACL_GROUP | ACL_MASK | ACL_OTHER;
    case ACL_MASK:
        return ACL_OTHER;
    default:
        return 0;
    }
}

static const char *acl_take(struct acl_parse *p, const struct acl_entry *n)
{
    struct proto_acl *acl = p->acl;
    if ((n->tag & p->expected) == 0 || (n->tag & (n->tag - 1)) != 0) {
        return "its kind is unknown, or must not stand there";
    }
    if (n->rights > ACL_RIGHTS) {
        return "its rights are more than rwx";
    }
    if (acl_is_named(n->tag) && n->id == ACL_NO_ID) {
        return "it names nobody";
    }
    uint8_t rights = (uint8_t)n->rights;
    if (n->tag == ACL_USER_OBJ) {
        acl->owner = rights;
    } else if (n->tag == ACL_GROUP_OBJ) {
        acl->group = rights;
    } else if (n->tag == ACL_OTHER) {
        acl->other = rights;
    } else if (n->tag == ACL_MASK) {
        acl->has_mask = true;
        acl->mask = rights;
    } else {
        acl->entries.at[acl->entries.count++] =
            (struct proto_acl_entry){.is_group = n->tag == ACL_GROUP, .id = n->id, .perm = rights};
    }
    p->expected = acl_follow(n->tag);
    if (acl->entries.count > 0 && !acl->has_mask) {
        p->expected &= ~(uint32_t)ACL_OTHER;
    }
    p->done = n->tag == ACL_OTHER;
    return NULL;
}

int proto_acl_parse(const void *value, size_t len, struct mem_arena *a, struct proto_acl *ret,
                    struct err *e)
{
    struct wire_reader r = wire_reader_over(value, len);
    struct proto_acl acl = {0};
    struct acl_parse p = {.acl = &acl, .expected = ACL_USER_OBJ};
    uint32_t version = wire_read_u32(&r);
    if (len < 4 || (len - 4) % ACL_ENTRY_BYTES != 0) {
        return err_set(e, -EINVAL, "an access list of %zu bytes: entries have 8 each, after 4",
                       len);
    }
    if (version != ACL_VERSION) {
        return err_set(e, -EOPNOTSUPP, "an access list of version %u, not 2", version);
    }
    size_t count = (len - 4) / ACL_ENTRY_BYTES;
    if (count == 0) {
        *ret = acl;
        return 0;
    }
    if (count > PROTO_ACL_ENTRIES_MAX + 4) {
        return err_set(e, -ENOSPC, "an access list of %zu entries, more than %u", count,
                       PROTO_ACL_ENTRIES_MAX);
    }
    acl.entries.at = mem_arena_alloc(a, count * sizeof *acl.entries.at);
    if (acl.entries.at == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        struct acl_entry n = {.tag = wire_read_u16(&r)};
        n.rights = wire_read_u16(&r);
        n.id = wire_read_u32(&r);
        const char *wrong = acl_take(&p, &n);
        if (wrong != NULL) {
            return err_set(e, -EINVAL, "entry %zu of the access list (0x%x, 0x%x, %u): %s", i,
                           n.tag, n.rights, n.id, wrong);
        }
    }
    if (!p.done) {
        return err_set(e, -EINVAL, "the access list ends before the entry of all others");
    }
    if (acl.entries.count > PROTO_ACL_ENTRIES_MAX) {
        return err_set(e, -ENOSPC, "an access list of %zu entries, more than %u", acl.entries.count,
                       PROTO_ACL_ENTRIES_MAX);
    }
    *ret = acl;
    return 1;
}

static void acl_write(struct wire_writer *w, uint16_t tag, uint16_t rights, uint32_t id)
{
    wire_write_u16(w, tag);
    wire_write_u16(w, rights);
    wire_write_u32(w, id);
}

static void acl_write_named(struct wire_writer *w, const struct proto_acl *acl, bool groups)
{
    for (size_t i = 0; i < acl->entries.count; i++) {
        const struct proto_acl_entry *n = &acl->entries.at[i];
        if (n->is_group == groups) {
            acl_write(w, groups ? ACL_GROUP : ACL_USER, n->perm, n->id);
        }
    }
}

void proto_acl_render(const struct proto_acl *acl, struct wire_writer *w)
{
    wire_write_u32(w, ACL_VERSION);
    acl_write(w, ACL_USER_OBJ, acl->owner, ACL_NO_ID);
    acl_write_named(w, acl, false);
    acl_write(w, ACL_GROUP_OBJ, acl->group, ACL_NO_ID);
    acl_write_named(w, acl, true);
    if (acl->has_mask) {
        acl_write(w, ACL_MASK, acl->mask, ACL_NO_ID);
    }
    acl_write(w, ACL_OTHER, acl->other, ACL_NO_ID);
}

size_t proto_acl_value_bytes(const struct proto_acl *acl)
{
    return 4 + ACL_ENTRY_BYTES * (acl->entries.count + 3 + (acl->has_mask ? 1 : 0));
}
