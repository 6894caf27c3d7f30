#include "proto/acl.h"

#include "base/rand.h"
#include "testing/testing.h"

#define NO_ID UINT32_MAX

struct entry {
    uint16_t tag, rights;
    uint32_t id;
};
static const struct entry owner = {1, 7, NO_ID}, alice = {2, 5, 1000}, bob = {2, 6, 1001},
                          group = {4, 4, NO_ID}, staff = {8, 3, 50}, mask = {16, 7, NO_ID},
                          other = {32, 1, NO_ID};

struct value {
    uint8_t bytes[PROTO_ACL_VALUE_MAX + 64];
    size_t len;
};

static struct value value_of(uint32_t version, const struct entry *const *entries, size_t count)
{
    struct value v;
    struct wire_writer w = wire_writer_over(v.bytes, sizeof v.bytes);
    wire_write_u32(&w, version);
    for (size_t i = 0; i < count; i++) {
        wire_write_u16(&w, entries[i]->tag);
        wire_write_u16(&w, entries[i]->rights);
        wire_write_u32(&w, entries[i]->id);
    }
    v.len = w.len;
    return v;
}
#define VALUE(...)                                  \
    ({                                              \
        const struct entry *list[] = {__VA_ARGS__}; \
        value_of(2, list, ARRAY_COUNT(list));       \
    })

static int parse(const struct value *v, struct mem_arena *a, struct proto_acl *ret)
{
    return proto_acl_parse(v->bytes, v->len, a, ret, NULL);
}

TEST(lists_are_parsed_and_rendered_as_they_were)
{
    struct mem_arena a;
    struct proto_acl acl;
    mem_arena_init(&a, 1U << 20);
    struct value v = VALUE(&owner, &alice, &bob, &group, &staff, &mask, &other), again;
    CHECK_EQ(parse(&v, &a, &acl), 1);
    CHECK_EQ(acl.owner, 7);
    CHECK_EQ(acl.group, 4);
    CHECK_EQ(acl.mask, 7);
    CHECK_EQ(acl.other, 1);
    CHECK_TRUE(acl.has_mask);
    CHECK_EQ(acl.entries.count, 3);
    CHECK_TRUE(!acl.entries.at[1].is_group && acl.entries.at[1].id == 1001);
    CHECK_TRUE(acl.entries.at[2].is_group && acl.entries.at[2].perm == 3);
    struct wire_writer w = wire_writer_over(again.bytes, sizeof again.bytes);
    proto_acl_render(&acl, &w);
    CHECK_EQ(w.len, v.len);
    CHECK_EQ(proto_acl_value_bytes(&acl), v.len);
    CHECK_BYTES(again.bytes, v.bytes, v.len);
    v = VALUE(&owner, &group, &other);
    CHECK_EQ(parse(&v, &a, &acl), 1);
    CHECK_TRUE(!acl.has_mask && acl.entries.count == 0);
    CHECK_EQ(proto_acl_value_bytes(&acl), v.len);
    v = VALUE(&owner, &group, &mask, &other); /* a mask without names is allowed */
    CHECK_EQ(parse(&v, &a, &acl), 1);
    CHECK_TRUE(acl.has_mask);
    mem_arena_fini(&a);
}

TEST(malformed_lists_are_refused)
{
    static const struct entry strange = {64, 1, NO_ID}, two = {3, 1, NO_ID}, none = {0, 1, NO_ID},
                              much = {2, 8, 7}, nobody = {2, 4, NO_ID}, nothing = {8, 4, NO_ID};
    struct value bad[] = {
        VALUE(&owner),
        VALUE(&group, &other),
        VALUE(&owner, &other),
        VALUE(&owner, &group),
        VALUE(&owner, &owner, &group, &other),
        VALUE(&owner, &group, &group, &other),
        VALUE(&owner, &group, &other, &other),
        VALUE(&owner, &group, &mask, &mask, &other),
        VALUE(&owner, &alice, &group, &other), /* names, and no mask */
        VALUE(&owner, &group, &staff, &other),
        VALUE(&owner, &group, &alice, &mask, &other), /* users after groups */
        VALUE(&owner, &staff, &group, &mask, &other),
        VALUE(&alice, &owner, &group, &mask, &other),
        VALUE(&owner, &group, &other, &mask),
        VALUE(&owner, &group, &mask, &staff, &other),
        VALUE(&owner, &strange, &group, &other),
        VALUE(&owner, &two, &group, &mask, &other),
        VALUE(&owner, &none, &group, &mask, &other),
        VALUE(&owner, &much, &group, &mask, &other),
        VALUE(&owner, &nobody, &group, &mask, &other),
        VALUE(&owner, &group, &nothing, &mask, &other),
    };
    struct mem_arena a;
    struct proto_acl acl;
    struct err e = {0};
    mem_arena_init(&a, 1U << 20);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        e.text[0] = 0;
        CHECK_RC(proto_acl_parse(bad[i].bytes, bad[i].len, &a, &acl, &e), EINVAL);
        CHECK_TRUE(strlen(e.text) > 0);
    }
    struct value v = value_of(2, NULL, 0);
    CHECK_EQ(parse(&v, &a, &acl), 0);
    v = value_of(1, (const struct entry *const[]){&owner, &group, &other}, 3);
    CHECK_RC(parse(&v, &a, &acl), EOPNOTSUPP);
    mem_arena_fini(&a);
}

TEST(every_truncation_is_refused)
{
    struct mem_arena a;
    struct proto_acl acl;
    mem_arena_init(&a, 1U << 20);
    struct value v = VALUE(&owner, &alice, &bob, &group, &staff, &mask, &other);
    for (size_t len = 0; len < v.len; len++) {
        int rc = proto_acl_parse(v.bytes, len, &a, &acl, NULL);
        CHECK_EQ(rc, len == 4 ? 0 : -EINVAL); /* 4: a list without entries */
    }
    CHECK_RC(proto_acl_parse(v.bytes, v.len + 1, &a, &acl, NULL), EINVAL);
    mem_arena_fini(&a);
}

TEST(the_longest_list_fits)
{
    struct mem_arena a;
    struct proto_acl acl;
    const struct entry *list[PROTO_ACL_ENTRIES_MAX + 5];
    size_t n = PROTO_ACL_ENTRIES_MAX;
    mem_arena_init(&a, 1U << 20);
    list[0] = &owner;
    for (size_t i = 1; i <= n; i++) {
        list[i] = &alice;
    }
    list[n + 1] = &group;
    list[n + 2] = &mask;
    list[n + 3] = &other;
    struct value v = value_of(2, list, n + 4);
    CHECK_EQ(v.len, PROTO_ACL_VALUE_MAX);
    CHECK_EQ(parse(&v, &a, &acl), 1);
    CHECK_EQ(acl.entries.count, n);
    list[n + 1] = &alice;
    list[n + 2] = &group;
    list[n + 3] = &mask;
    list[n + 4] = &other;
    v = value_of(2, list, n + 5);
    CHECK_RC(parse(&v, &a, &acl), ENOSPC);
    mem_arena_fini(&a);
}

/* Whatever is accepted is rendered as the same bytes; nothing else happens to mutated values. */
TEST(mutated_values_never_harm)
{
    struct rand r;
    unsigned accepted = 0;
    rand_seed(&r, testing_seed());
    for (unsigned i = 0; i < 20000; i++) {
        struct mem_arena a;
        struct proto_acl acl;
        struct value v = VALUE(&owner, &alice, &group, &staff, &mask, &other), again;
        mem_arena_init(&a, 1U << 20);
        v.bytes[rand_below(&r, v.len)] ^= (uint8_t)(1U << rand_below(&r, 8));
        if (parse(&v, &a, &acl) == 1) {
            struct wire_writer w = wire_writer_over(again.bytes, sizeof again.bytes);
            proto_acl_render(&acl, &w);
            CHECK_EQ(w.len, v.len);
            /* The ids of entries that name nobody are not kept. */
            CHECK_BYTES(again.bytes, v.bytes, 8);
            accepted++;
        }
        mem_arena_fini(&a);
    }
    CHECK_TRUE(accepted > 100 && accepted < 19900);
}
