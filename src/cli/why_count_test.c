#include "cli/why_priv.h"

#include "base/mem.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

/* What would lose a file, from what members say. */

static const struct opendfs_where_target target[] = {
    {.id = 1, .name = "target.0", .host = "a"}, {.id = 2, .name = "target.1", .host = "b"},
    {.id = 3, .name = "target.2", .host = "c"}, {.id = 4, .name = "target.3", .host = "a"},
    {.id = 5, .name = "target.4", .host = ""},
};

/* "1s7 2s7d 3o": target, serving or offline, version (0: not there; "!": no answer), damaged. */
static struct opendfs_where_chunk chunk(uint32_t index, const char *text)
{
    static struct opendfs_where_member members[8];
    struct opendfs_where_chunk k = {.index = index, .chain = 9, .members = members};
    memset(members, 0, sizeof members);
    for (const char *at = text; *at != 0; at += *at == ' ' ? 1 : 0) {
        struct opendfs_where_member *m = &members[k.member_count++];
        m->target = &target[*at++ - '1'];
        m->state = *at == 's' ? OPENDFS_MEMBER_SERVING : OPENDFS_MEMBER_OFFLINE;
        at++;
        m->result = *at == '!' || m->state == OPENDFS_MEMBER_OFFLINE ? -EAGAIN : 0;
        m->why = "busy";
        m->there = *at >= '1' && *at <= '9';
        m->version = m->there ? (uint64_t)(*at - '0') : 0;
        at += *at != 0 && *at != ' ' ? 1 : 0;
        m->damaged = *at == 'd';
        at += m->damaged;
    }
    return k;
}
static enum why_kind add(struct why *y, uint32_t index, const char *text)
{
    struct opendfs_where_chunk k = chunk(index, text);
    return cli_why_add(y, &k, 2);
}
static void check_text(const struct why *y, const char *expected)
{
    char line[500];
    struct text t;
    text_init(&t, line, sizeof line);
    cli_why_text(y, &t);
    CHECK_TEXT(line, expected);
}
static void check_set(const struct why_set *s, const char *expected)
{
    char line[500];
    struct text t;
    text_init(&t, line, sizeof line);
    cli_why_set_text(s, &t);
    CHECK_TEXT(line, expected);
}
static struct why *fresh(void)
{
    struct why *y = mem_zalloc(sizeof *y);
    CHECK_TRUE(y != NULL);
    cli_why_init(y);
    return y;
}

TEST(copies_on_different_hosts_allow_the_loss_of_one)
{
    struct why *y = fresh();
    CHECK_EQ(add(y, 0, "1s3 2s3"), WHY_GOOD);
    CHECK_EQ(add(y, 1, "2s4 3s4"), WHY_GOOD);
    CHECK_EQ(add(y, 2, "2s1 1s1"), WHY_GOOD);
    CHECK_EQ(y->least, 2);
    CHECK_EQ(y->set_count, 2);
    check_text(y, "Each chunk has copies on at least 2 hosts: any one host may be lost.");
    check_set(&y->set[0], "losing hosts a and b loses 2 chunks (the first is chunk 0)");
    check_set(&y->set[1], "losing hosts b and c loses chunk 1");
    mem_free(y);
}

TEST(copies_on_one_host_are_as_good_as_one)
{
    struct why *y = fresh();
    CHECK_EQ(add(y, 0, "1s3 4s3"), WHY_GOOD);
    CHECK_EQ(add(y, 1, "1s3 2s3 3s3"), WHY_GOOD);
    CHECK_EQ(y->least, 1);
    check_text(y, "Not every chunk has copies on different hosts: losing one host may lose "
                  "something.");
    check_set(&y->set[0], "losing host a loses chunk 0");
    check_set(&y->set[1], "losing hosts a, b and c loses chunk 1");
    mem_free(y);
    y = fresh();
    CHECK_EQ(add(y, 0, "1s3 2s3 3s3"), WHY_GOOD);
    check_text(y, "Each chunk has copies on at least 3 hosts: any 2 hosts may be lost.");
    mem_free(y);
}

TEST(only_what_members_say_counts)
{
    struct why *y = fresh();
    CHECK_EQ(add(y, 0, "1s3 2o"), WHY_FEW);
    CHECK_EQ(add(y, 1, "1s3 2s!"), WHY_FEW);
    CHECK_EQ(add(y, 2, "1s3 2s4"), WHY_DIFFERENT); /* the first one leads */
    CHECK_EQ(add(y, 3, "1s3 2s0"), WHY_DIFFERENT);
    CHECK_EQ(y->few, 2);
    CHECK_EQ(y->different, 2);
    CHECK_EQ(y->set_count, 1);
    check_set(&y->set[0], "losing host a loses 4 chunks (the first is chunk 0)");
    CHECK_EQ(add(y, 4, "5s1"), WHY_FEW);
    check_set(&y->set[1], "losing host of target 5 loses chunk 4");
    struct opendfs_where_chunk k = chunk(2, "1s3 2s4");
    CHECK_TRUE(cli_why_is_good(&k, &k.members[0]) && !cli_why_is_good(&k, &k.members[1]));
    mem_free(y);
}

TEST(damaged_copies_are_none)
{
    struct why *y = fresh();
    CHECK_EQ(add(y, 0, "1s3 2s3d"), WHY_FEW);
    CHECK_EQ(add(y, 1, "1s3d 2s3"), WHY_FEW); /* who leads may be damaged, too */
    CHECK_EQ(y->least, 1);
    check_set(&y->set[1], "losing host b loses chunk 1");
    CHECK_EQ(add(y, 2, "1s3d 2s3d"), WHY_UNREADABLE);
    CHECK_EQ(add(y, 3, "1s3d 2s0"), WHY_UNREADABLE); /* no hole: somebody had it */
    mem_free(y);
}

TEST(what_nobody_has_is_a_hole_or_lost)
{
    struct why *y = fresh();
    CHECK_EQ(add(y, 0, "1s0 2s0"), WHY_HOLE);
    CHECK_EQ(add(y, 1, "1s0 2s!"), WHY_HOLE);
    check_text(y, "Nothing of it is stored: it is all zeros.");
    CHECK_EQ(add(y, 2, "1s3 2s3"), WHY_GOOD);
    CHECK_EQ(y->holes, 2);
    CHECK_EQ(add(y, 3, "1o 2o"), WHY_UNREADABLE);
    CHECK_EQ(add(y, 4, "1s! 2s!"), WHY_UNREADABLE);
    CHECK_EQ(add(y, 5, ""), WHY_UNREADABLE); /* its chain is not known */
    CHECK_EQ(y->least, 0);
    check_text(y, "3 chunks cannot be read now (the first is chunk 3): no member that serves it "
                  "says that it has it.");
    mem_free(y);
}

/* Many different sets: some are kept, the rest is counted, the verdict is about all. */
TEST(many_sets_of_hosts_are_bounded)
{
    struct why *y = fresh();
    for (uint32_t i = 0; i < 100; i++) {
        char host[2][16];
        snprintf(host[0], sizeof host[0], "h%u", i);
        snprintf(host[1], sizeof host[1], "g%u", i);
        const struct opendfs_where_target t[2] = {{.id = 1, .host = host[0]},
                                                  {.id = 2, .host = host[1]}};
        const struct opendfs_where_member m[2] = {
            {.target = &t[0], .state = OPENDFS_MEMBER_SERVING, .there = 1, .version = 1},
            {.target = &t[1], .state = OPENDFS_MEMBER_SERVING, .there = 1, .version = 1}};
        const struct opendfs_where_chunk k = {
            .index = i, .members = m, .member_count = i == 99 ? 1 : 2};
        CHECK_EQ(cli_why_add(y, &k, 2), i == 99 ? WHY_FEW : WHY_GOOD);
    }
    CHECK_EQ(y->set_count, WHY_SETS_MAX);
    CHECK_EQ(y->elsewhere, 100 - WHY_SETS_MAX);
    CHECK_EQ(y->least, 1);
    mem_free(y);
}
