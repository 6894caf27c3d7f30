#include "cli/mode_priv.h"

#include "testing/testing.h"

#include <stdlib.h>
#include <time.h>

TEST(mode_changes_as_chmod_does)
{
    static const struct {
        const char *text;
        uint32_t before, after;
        bool directory;
    } rows[] = {
        {"0755", 0, 0755, false},
        {"7777", 0, 07777, false},
        {"0", 06755, 0, true},
        {"u+x", 0644, 0744, false},
        {"+x", 0644, 0755, false},
        {"+w", 0444, 0644, false},
        {"a+w", 0444, 0666, false},
        {"go-rwx", 0777, 0700, false},
        {"u=rw,go=r", 0777, 0644, false},
        {"a+X", 0644, 0644, false},
        {"a+X", 0744, 0755, false},
        {"a+X", 0644, 0755, true},
        {"g=u", 0750, 0770, false},
        {"o=g-w", 0770, 0775, false},
        {"u+s", 0755, 04755, false},
        {"ug+s", 0755, 06755, false},
        {"+t", 0755, 01755, true},
        {"o+s", 0755, 0755, false},
        {"u=", 0777, 077, false},
        {"=", 0777, 0, false},
        {"g=rx", 02770, 02750, true},
        {"g=rx", 02770, 0750, false},
        {"g-s", 02770, 0770, true},
        {"-w", 0666, 0466, false},
        {"u+r,u-r", 0, 0, false},
        {"a=rwx,g-w+s", 0, 02757, false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct mode_change m;
        CHECK_TRUE(cli_mode_parse(rows[i].text, 022, &m));
        CHECK_EQ(cli_mode_apply(&m, rows[i].before, rows[i].directory), rows[i].after);
    }
}

TEST(mode_refuses_what_is_none)
{
    static const char *const rows[] = {"",     "8", "10000", "07a", "x", "u",    "u+q",
                                       "u+x,", ",", "u+gx",  "ugo", "-", "u+ x", "07777777777777"};
    struct mode_change m;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        bool good = cli_mode_parse(rows[i], 022, &m);
        CHECK_EQ(good, rows[i][0] == '-'); /* "-" alone takes nothing away from all */
    }
    CHECK_TRUE(!cli_mode_parse("+r+r+r+r+r+r+r+r+r+r+r+r+r+r+r+r+r", 022, &m));
}

TEST(times_as_people_write_them)
{
    static const struct {
        const char *text;
        int64_t s, ns;
    } rows[] = {
        {"1970-01-01 00:00:00Z", 0, 0},
        {"1970-01-01T00:00:01.5Z", 1, 500000000},
        {"2001-02-03 04:05:06.789Z", 981173106, 789000000},
        {"2001-02-03 04:05:06.123456789Z", 981173106, 123456789},
        {"2001-02-03T04:05+01:00", 981169500, 0},
        {"2001-02-03 04:05:06 -0230", 981182106, 0},
        {"2001-02-03", 981158400, 0},
        {"2001-02-03 04:05", 981173100, 0},
        {"@0", 0, 0},
        {"@1.000000001", 1, 1},
        {"@-1.5", -2, 500000000},
        {"1969-12-31 23:59:59.25Z", -1, 250000000},
        {"2024-02-29", 1709164800, 0},
    };
    setenv("TZ", "UTC0", 1);
    tzset();
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        int64_t ns;
        CHECK_TRUE(cli_time_parse(rows[i].text, &ns));
        CHECK_EQ(ns, rows[i].s * 1000000000 + rows[i].ns);
    }
    static const char *const bad[] = {"",
                                      "x",
                                      "2001",
                                      "2001-2-3",
                                      "2001-02-30",
                                      "2001-13-01",
                                      "2001-02-03 25:00",
                                      "@",
                                      "@x",
                                      "@1.x",
                                      "2001-02-03 04",
                                      "2001-02-03 04:60",
                                      "2001-02-03x",
                                      "2001-02-03 04:05:06.5+1",
                                      "@99999999999999"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        int64_t ns = 77;
        CHECK_TRUE(!cli_time_parse(bad[i], &ns));
        CHECK_EQ(ns, 77);
    }
}

TEST(times_as_touch_takes_them)
{
    int64_t ns = 0, now_ns = 981173106ll * 1000000000;
    setenv("TZ", "UTC0", 1);
    tzset();
    CHECK_TRUE(cli_time_parse_stamp("02030405", now_ns, &ns));
    CHECK_EQ(ns / 1000000000, 981173100);
    CHECK_TRUE(cli_time_parse_stamp("0102030405.06", now_ns, &ns));
    CHECK_EQ(ns / 1000000000, 981173106);
    CHECK_TRUE(cli_time_parse_stamp("200102030405.06", now_ns, &ns));
    CHECK_EQ(ns / 1000000000, 981173106);
    CHECK_TRUE(cli_time_parse_stamp("7001010000", now_ns, &ns));
    CHECK_EQ(ns, 0);
    CHECK_TRUE(!cli_time_parse_stamp("020304", now_ns, &ns));
    CHECK_TRUE(!cli_time_parse_stamp("02300405", now_ns, &ns));
    CHECK_TRUE(!cli_time_parse_stamp("02030405.", now_ns, &ns));
    CHECK_TRUE(!cli_time_parse_stamp("02030405.61", now_ns, &ns));
}

TEST(sizes_compare_as_find_does)
{
    struct size_test t;
    CHECK_TRUE(cli_size_test_parse("+10k", true, &t));
    CHECK_TRUE(!cli_size_test(&t, 10240));
    CHECK_TRUE(cli_size_test(&t, 10241));
    CHECK_TRUE(cli_size_test_parse("-1M", true, &t));
    CHECK_TRUE(cli_size_test(&t, 1048575));
    CHECK_TRUE(!cli_size_test(&t, 1048576));
    CHECK_TRUE(cli_size_test_parse("7", true, &t));
    CHECK_TRUE(cli_size_test(&t, 7));
    CHECK_TRUE(!cli_size_test(&t, 8));
    CHECK_TRUE(cli_size_test_parse("7c", true, &t));
    CHECK_TRUE(!cli_size_test_parse("7c", false, &t));
    static const char *const bad[] = {"",    "+",        "k", "1q", "1kk", "99999999999999999999",
                                      "-1 ", "20000000T"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        CHECK_TRUE(!cli_size_test_parse(bad[i], true, &t));
    }
}

TEST(owners_by_name_and_number)
{
    struct owner_change o;
    char out[CLI_OWNER_SIZE];
    CHECK_TRUE(cli_owner_parse("root", &o) == NULL);
    CHECK_TRUE(o.set_uid && !o.set_gid && o.uid == 0);
    CHECK_TRUE(cli_owner_parse("root:", &o) == NULL);
    CHECK_TRUE(o.set_uid && o.set_gid && o.gid == 0);
    CHECK_TRUE(cli_owner_parse("12345:54321", &o) == NULL);
    CHECK_TRUE(o.uid == 12345 && o.gid == 54321);
    CHECK_TRUE(cli_owner_parse(":root", &o) == NULL);
    CHECK_TRUE(!o.set_uid && o.set_gid && o.gid == 0);
    CHECK_TRUE(cli_owner_parse("", &o) != NULL);
    CHECK_TRUE(cli_owner_parse(":", &o) != NULL);
    CHECK_TRUE(cli_owner_parse("no-such-user-here", &o) != NULL);
    CHECK_TRUE(cli_owner_parse("root:no-such-group-here", &o) != NULL);
    CHECK_TRUE(cli_owner_parse("4294967295", &o) != NULL); /* means "nobody" in the protocols */
    CHECK_TRUE(cli_owner_parse("-1", &o) != NULL);
    CHECK_TEXT(cli_user_to_text(0, false, out), "root");
    CHECK_TEXT(cli_user_to_text(0, true, out), "0");
    CHECK_TEXT(cli_group_to_text(4000000001u, false, out), "4000000001");
}
