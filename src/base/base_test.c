#include "base/base.h"

#include "testing/testing.h"

TEST(base_align_goes_to_the_unit)
{
    CHECK_EQ(base_align_up(0, 16), 0);
    CHECK_EQ(base_align_up(1, 16), 16);
    CHECK_EQ(base_align_up(16, 16), 16);
    CHECK_EQ(base_align_down(15, 16), 0);
    CHECK_EQ(base_align_down(31, 16), 16);
}

TEST(base_min_and_max_are_unsigned)
{
    CHECK_EQ(base_min(1, UINT64_MAX), 1);
    CHECK_TRUE(base_max(1, UINT64_MAX) == UINT64_MAX);
}

struct base_outer {
    int before;
    int member;
};

TEST(base_container_of_finds_the_object)
{
    struct base_outer outer = {0};
    int *member = &outer.member;
    CHECK_TRUE(container_of(member, struct base_outer, member) == &outer);
}

TEST(base_check_evaluates_its_condition_once)
{
    int count = 0;
    CHECK(++count == 1);
    CHECK_EQ(count, 1);
}
