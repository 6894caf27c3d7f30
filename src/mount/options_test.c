/* mount/options_test.c -- sources and options of mount(8). */
#include "mount/options.h"

#include "base/mem.h"
#include "testing/testing.h"

#include <string.h>

static struct mount_setup good(const char *source, const char *list, bool root)
{
    struct mount_setup s;
    struct err e = {0};
    CHECK_OK(mount_setup_parse(source, list, root, &s, &e));
    return s;
}

static void bad(const char *source, const char *list, int rc, const char *words)
{
    struct mount_setup s;
    struct err e = {0};
    CHECK_RC(mount_setup_parse(source, list, false, &s, &e), rc);
    CHECK_TRUE(strstr(err_message(&e, -rc), words) != NULL);
}

TEST(a_source_is_a_cluster_and_a_path)
{
    static const struct {
        const char *source, *cluster, *path;
    } t[] = {{"/", NULL, "/"},
             {"/a/b", NULL, "/a/b"},
             {"demo:/", "demo", "/"},
             {"/clusters/a:/x y", "/clusters/a", "/x y"},
             {"10.0.0.1:9400,10.0.0.2:9400:/home", "10.0.0.1:9400,10.0.0.2:9400", "/home"},
             {"[::1]:9400:/a:/b", "[::1]:9400", "/a:/b"}};
    for (size_t i = 0; i < ARRAY_COUNT(t); i++) {
        struct mount_setup s = good(t[i].source, NULL, false);
        CHECK_TEXT(s.path, t[i].path);
        CHECK_TRUE((s.cluster == NULL) == (t[i].cluster == NULL));
        CHECK_TRUE(s.cluster == NULL || strcmp(s.cluster, t[i].cluster) == 0);
        mount_setup_fini(&s);
    }
    bad("", NULL, EINVAL, "[CLUSTER:]/PATH");
    bad("demo", NULL, EINVAL, "'demo'");
    bad("demo:", NULL, EINVAL, "'demo:'");
    bad(":/a", NULL, EINVAL, "':/a'");
}

TEST(options_go_where_they_belong)
{
    struct mount_setup s = good("/",
                                "rw,_netdev,x-systemd.automount,comment=a "
                                "b,ro,,noatime,log=/l,cache=1G,readahead=4M,secret=k,cluster=c",
                                true);
    CHECK_TEXT(s.kernel, "allow_other,suid,dev,ro,noatime");
    CHECK_TEXT(s.log, "/l");
    CHECK_TEXT(s.secret, "k");
    CHECK_TEXT(s.cluster, "c");
    CHECK_EQ(s.cache_bytes, UINT64_C(1) << 30);
    CHECK_EQ(s.read_ahead_bytes, UINT64_C(4) << 20);
    CHECK_EQ(s.timeout_ms, 0);
    mount_setup_fini(&s);
    s = good("d:/", "cluster=c,soft", false); /* the source says it better */
    CHECK_TEXT(s.cluster, "d");
    CHECK_TEXT(s.kernel, "");
    CHECK_EQ(s.timeout_ms, 60000);
    mount_setup_fini(&s);
    s = good("/", "timeout=5,soft", false);
    CHECK_EQ(s.timeout_ms, 5000);
    mount_setup_fini(&s);
    s = good("/", "soft,hard", false);
    CHECK_EQ(s.timeout_ms, 0);
    mount_setup_fini(&s);
}

TEST(what_is_not_understood_is_named)
{
    bad("/", "ro,color=red", EINVAL, "'color=red' is not known");
    bad("/", "strictatime", EINVAL, "'strictatime'");
    bad("/", "ro=1", EINVAL, "'ro=1'");
    bad("/", "log", EINVAL, "'log'");
    bad("/", "log=", EINVAL, "'log='");
    bad("/", "cache=much", EINVAL, "'cache=much'");
    bad("/", "soft,timeout=0", EINVAL, "'timeout=0'");
    bad("/", "soft,timeout=-1", EINVAL, "'timeout=-1'");
    bad("/", "soft,timeout=5s", EINVAL, "'timeout=5s'");
    bad("/", "timeout=5", EINVAL, "'soft'");
    char *longer = mem_zalloc(8192);
    memset(longer, 'r', 5000);
    bad("/", longer, E2BIG, "4096");
    struct mount_setup none;
    CHECK_RC(mount_setup_parse("/", longer, true, &none, NULL), E2BIG);
    mem_free(longer);
}
