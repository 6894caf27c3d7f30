#include "cli/acl_priv.h"

#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MAX 2000u

struct lines {
    char text[TEXT_MAX];
};

static void add(void *context, const char *text)
{
    struct lines *l = context;
    size_t len = strlen(l->text);
    int n = snprintf(l->text + len, sizeof l->text - len, "%s ", text);
    CHECK_TRUE(n > 0 && (size_t)n < sizeof l->text - len);
}

static const char *text_of(const struct cli_acl *acl, struct lines *l)
{
    l->text[0] = 0;
    cli_acl_to_text(&acl->list, true, "", add, l);
    return l->text;
}

static struct cli_acls *new_lists(uint32_t mode, bool directory)
{
    struct cli_acls *a = mem_zalloc(sizeof *a);
    CHECK_TRUE(a != NULL);
    a->directory = directory;
    CHECK_OK(cli_acl_load(&a->access, NULL, 0, mode, NULL));
    CHECK_OK(cli_acl_load(&a->inherit, NULL, 0, 0, NULL));
    return a;
}

TEST(default_entries_pass_over_what_is_no_directory)
{
    struct lines l;
    struct err e;
    struct cli_acls *a = new_lists(0640, false);
    CHECK_RC(cli_acl_change(a, "u:1:r,d:u:1000:rwx", false, false, &e), EINVAL);
    a->pass_over = true;
    CHECK_OK(cli_acl_change(a, "u:1:rx,d:u:1000:rwx", false, false, &e));
    CHECK_TEXT(text_of(&a->access, &l), "user::rw- user:1:r-x group::r-- mask::r-x other::--- ");
    CHECK_OK(cli_acl_change(a, "u:1", true, true, &e));
    CHECK_TEXT(text_of(&a->access, &l), "user::rw- user:1:r-x group::r-- mask::r-x other::--- ");
    CHECK_TRUE(!a->inherit.present);
    mem_free(a);
}

TEST(entries_are_set_and_the_mask_follows)
{
    struct lines l;
    struct cli_acls *a = new_lists(0640, false);
    CHECK_TEXT(text_of(&a->access, &l), "user::rw- group::r-- other::--- ");
    CHECK_OK(cli_acl_change(a, "u:1000:rwx,group:50:r-x,o::r", false, false, NULL));
    CHECK_TEXT(text_of(&a->access, &l),
               "user::rw- user:1000:rwx group::r-- group:50:r-x mask::rwx other::r-- ");
    CHECK_OK(cli_acl_change(a, "mask::r", false, false, NULL));
    CHECK_TEXT(text_of(&a->access, &l), "user::rw- user:1000:rwx\t#effective:r-- group::r-- "
                                        "group:50:r-x\t#effective:r-- mask::r-- other::r-- ");
    CHECK_OK(cli_acl_change(a, "user:1000:-,g::7,m:5", false, false, NULL));
    CHECK_TEXT(text_of(&a->access, &l),
               "user::rw- user:1000:--- group::rwx\t#effective:r-x group:50:r-x mask::r-x "
               "other::r-- ");
    CHECK_OK(cli_acl_change(a, "u:1000,u:77", true, false, NULL));
    CHECK_TEXT(text_of(&a->access, &l), "user::rw- group::rwx group:50:r-x mask::rwx other::r-- ");
    CHECK_OK(cli_acl_change(a, "g:50,m", true, false, NULL));
    CHECK_TEXT(text_of(&a->access, &l), "user::rw- group::rwx other::r-- ");
    mem_free(a);
}

TEST(default_entries_begin_with_the_access_list)
{
    struct lines l;
    struct cli_acls *a = new_lists(0751, true);
    CHECK_OK(cli_acl_change(a, "d:u:1000:rX,default:o::-", false, false, NULL));
    CHECK_TRUE(a->inherit.present);
    CHECK_TEXT(text_of(&a->inherit, &l),
               "user::rwx user:1000:r-x group::r-x mask::r-x other::--- ");
    CHECK_TEXT(text_of(&a->access, &l), "user::rwx group::r-x other::--x ");
    CHECK_OK(cli_acl_change(a, "u:1000", true, true, NULL)); /* -d */
    CHECK_TEXT(text_of(&a->inherit, &l), "user::rwx group::r-x mask::r-x other::--- ");
    CHECK_OK(cli_acl_change(a, "u:1000:rw", false, false, NULL));
    cli_acl_strip(a);
    CHECK_TRUE(!a->inherit.present);
    CHECK_TEXT(text_of(&a->access, &l), "user::rwx group::r-x other::--x ");
    CHECK_OK(cli_acl_change(a, "d:u:1000", true, false, NULL)); /* there is none: nothing to do */
    CHECK_TRUE(!a->inherit.present);
    mem_free(a);
}

TEST(capital_x_is_for_what_can_be_executed)
{
    struct lines l;
    struct cli_acls *a = new_lists(0640, false);
    CHECK_OK(cli_acl_change(a, "u:1000:rX", false, false, NULL));
    CHECK_TEXT(text_of(&a->access, &l), "user::rw- user:1000:r-- group::r-- mask::r-- other::--- ");
    CHECK_OK(cli_acl_change(a, "u::rwx,u:1000:rX", false, false, NULL));
    CHECK_TEXT(text_of(&a->access, &l), "user::rwx user:1000:r-x group::r-- mask::r-x other::--- ");
    mem_free(a);
}

TEST(what_is_no_entry_is_refused)
{
    static const char *const bad[] = {
        "",         "x:1000:r",   "u:1000",           "u:1000:",   "u:1000:q",
        "u:1000:8", "u:1000:r:x", "m:1000:r",         "o:1000:r",  "d",
        "d:d:u::r", "u:1000:r,",  "u:no such user:r", "d:u:1000:r" /* of a file */};
    static const char *const bad_away[] = {"u:1000:r", "u", "g", "o", "u:", "m:1000"};
    struct cli_acls *a = new_lists(0640, false);
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        e.text[0] = 0;
        CHECK_RC(cli_acl_change(a, bad[i], false, false, &e), EINVAL);
        CHECK_TRUE(strlen(e.text) > 3);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad_away); i++) {
        CHECK_RC(cli_acl_change(a, bad_away[i], true, false, NULL), EINVAL);
    }
    CHECK_RC(cli_acl_load(&a->access, "nonsense", 8, 0, &e), EINVAL);
    mem_free(a);
}

TEST(values_come_back_as_they_were)
{
    uint8_t value[PROTO_ACL_VALUE_MAX], again[PROTO_ACL_VALUE_MAX];
    struct cli_acls *a = new_lists(0640, false);
    CHECK_OK(cli_acl_change(a, "u:1000:rwx,g:50:r-x,u:7:w", false, false, NULL));
    size_t len = cli_acl_value(&a->access, value);
    CHECK_OK(cli_acl_load(&a->inherit, value, len, 0, NULL));
    CHECK_EQ(cli_acl_value(&a->inherit, again), len);
    CHECK_BYTES(value, again, len);
    CHECK_EQ(len, 4 + 8 * 7);
    mem_free(a);
}
