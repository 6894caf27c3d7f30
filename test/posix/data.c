/* read(), write(), truncate(), holes, fallocate(), copy_file_range(), O_APPEND, O_DIRECT, limits,
 * fsync(). */
#include "suite.h"
#include <linux/falloc.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static int new_file(const char *name)
{
    return FD(open(name, O_RDWR | O_CREAT | O_TRUNC, 0644));
}

TEST(read_and_write)
{
    char text[10] = "";
    int fd = new_file("f");
    EQ(0, read(fd, text, 5));
    EQ(5, write(fd, "abcde", 5));
    EQ(0, read(fd, text, 5)); /* at the end */
    EQ(0, lseek(fd, 0, SEEK_SET));
    EQ(5, read(fd, text, 9)); /* what there is */
    EQ(3, pwrite(fd, "XYZ", 3, 10));
    EQ(5, lseek(fd, 0, SEEK_CUR));
    EQ(13, SIZE("f"));
    EQ(13, lseek(fd, 0, SEEK_END));
    TRUE(is_all(fd, 5, 5, 0));
    EQ(0, pread(fd, text, 5, 13));
    EQ(0, pread(fd, text, 5, 1LL << 40));
    struct iovec v[2] = {{text, 2}, {text + 2, 3}};
    EQ(5, preadv(fd, v, 2, 8));
    TRUE(memcmp(text, "\0\0XYZ", 5) == 0);
    EQ(5, pwritev(fd, v, 2, 0));
    EQ(5, preadv(fd, v, 2, 0));
    TRUE(memcmp(text, "\0\0XYZ", 5) == 0);
    EQ(0, write(fd, text, 0));
    EQ(13, SIZE("f"));
}

TEST(read_and_write_errors)
{
    char c = 0;
    int fd = new_file("f");
    OK(mkdir("d", 0755));
    ERR(EINVAL, pread(fd, &c, 1, -1));
    ERR(EINVAL, pwrite(fd, &c, 1, -1));
    ERR(EFAULT, write(fd, bad_address(), 10));
    EQ(3, write(fd, "abc", 3));
    ERR(EFAULT, pread(fd, bad_address(), 3, 0));
    struct iovec v[1] = {{&c, (size_t)-1}};
    ERR(EINVAL, readv(fd, v, 1));
    ERR(EINVAL, syscall(SYS_writev, fd, v, -1));
    ERR(EBADF, read(-1, &c, 1));
    ERR(EBADF, pwrite(-1, &c, 1, 0));
    ERR(EISDIR, pread(FD(open("d", O_RDONLY)), &c, 1, 0));
}

TEST(lseek_moves)
{
    int fd = new_file("f");
    EQ(10, write(fd, "0123456789", 10));
    EQ(4, lseek(fd, 4, SEEK_SET));
    EQ(2, lseek(fd, -2, SEEK_CUR));
    EQ(7, lseek(fd, -3, SEEK_END));
    EQ(1LL << 40, lseek(fd, 1LL << 40, SEEK_SET));
    EQ(10, SIZE("f"));
    ERR(EINVAL, lseek(fd, -1, SEEK_SET));
    ERR(EINVAL, lseek(fd, -11, SEEK_END));
    ERR(EINVAL, lseek(fd, 0, 77));
    ERR(EBADF, lseek(-1, 0, SEEK_SET));
}

TEST(offsets_are_shared_by_dup)
{
    char c = 0;
    make_file("f", "abcdef");
    int fd = FD(open("f", O_RDONLY));
    int twin = FD(dup(fd));
    int other = FD(open("f", O_RDONLY));
    EQ(2, lseek(twin, 2, SEEK_SET));
    EQ(1, read(fd, &c, 1));
    EQ('c', c);
    EQ(0, lseek(other, 0, SEEK_CUR));
    pid_t pid;
    CHILD(pid)
    {
        EQ(5, lseek(fd, 2, SEEK_CUR));
    }
    join(pid);
    EQ(5, lseek(twin, 0, SEEK_CUR));
}

TEST(write_is_seen_at_once)
{
    char text[8192];
    int w = new_file("f");
    int r = FD(open("f", O_RDONLY));
    for (int i = 0; i < 50; i++) {
        fill(w, i * 1000, 8192, 'a' + i % 26);
        EQ(8192, pread(r, text, 8192, i * 1000));
        EQ('a' + i % 26, text[0]);
        EQ('a' + i % 26, text[8191]);
        EQ(i * 1000 + 8192, SIZE("f"));
    }
}

TEST(truncate_both_ways)
{
    int fd = new_file("f");
    fill(fd, 0, 10000, 'x');
    OK(truncate("f", 5000));
    EQ(5000, fstat_of(fd).st_size);
    OK(ftruncate(fd, 20000));
    EQ(20000, SIZE("f"));
    TRUE(is_all(fd, 0, 5000, 'x'));
    TRUE(is_all(fd, 5000, 15000, 0)); /* what was cut off does not come back */
    OK(truncate("f", 0));
    OK(truncate("f", 4097));
    TRUE(is_all(fd, 0, 4097, 0));
    OK(truncate("f", 1LL << 33));
    EQ(1LL << 33, SIZE("f"));
    TRUE(is_all(fd, (1LL << 33) - 100, 100, 0));
    OK(truncate("f", 1));
    MOVES("f", "mc", truncate("f", 100));
    MOVES("f", "mc", truncate("f", 10));
}

TEST(truncate_errors)
{
    make_file("f", "abc");
    OK(mkdir("d", 0755));
    OK(mkfifo("p", 0644));
    int r = FD(open("f", O_RDONLY));
    ERR(EINVAL, truncate("f", -1));
    ERR(EINVAL, ftruncate(FD(open("f", O_RDWR)), -1));
    ERR(EINVAL, ftruncate(r, 0));
    ERR(EINVAL, truncate("p", 0));
    ERR(EISDIR, truncate("d", 0));
    ERR(EINVAL, ftruncate(FD(open("d", O_RDONLY)), 0));
    ERR(ENOENT, truncate("none", 0));
    ERR(ENOENT, truncate("", 0));
    ERR(ENOTDIR, truncate("f/x", 0));
    ERR(ENAMETOOLONG, truncate(name_of(256, 'n'), 0));
    ERR(EFAULT, truncate(bad_address(), 0));
    ERR(EBADF, ftruncate(-1, 0));
    OK(symlink("loop", "loop"));
    ERR(ELOOP, truncate("loop", 0));
    need_root();
    OK(mkdir("closed", 0700));
    AS(ALICE, TEAM)
    {
        ERR(EACCES, truncate("f", 0));
        ERR(EACCES, truncate("closed/f", 0));
    }
    EQ(3, SIZE("f"));
}

TEST(sparse_file)
{
    int fd = new_file("f");
    fill(fd, 10 << 20, 4096, 'e');
    fill(fd, 0, 4096, 'b');
    OK(fsync(fd));
    EQ((10 << 20) + 4096, SIZE("f"));
    TRUE(is_all(fd, 4096, (10 << 20) - 4096, 0));
    TRUE(is_all(fd, 10 << 20, 4096, 'e'));
    TRUE(stat_of("f").st_blocks * 512LL < 5 << 20);
}

TEST(huge_offsets)
{
    static const long long at[] = {(1LL << 31) - 2, (1LL << 32) - 2, (1LL << 40) + 1, (1LL << 43)};
    int fd = new_file("f");
    for (size_t i = 0; i < COUNT(at); i++) {
        EQ(4, pwrite(fd, "here", 4, at[i]));
        EQ(at[i] + 4, SIZE("f"));
    }
    for (size_t i = 0; i < COUNT(at); i++) {
        char text[5] = "";
        EQ(4, pread(fd, text, 4, at[i]));
        TRUE(strcmp(text, "here") == 0);
    }
    TRUE(is_all(fd, 1LL << 41, 1000, 0));
}

/* Where a file system ends nobody says; beyond it is EFBIG, and up to there it works. */
TEST(hugest_file)
{
    int fd = new_file("f");
    int bits = 62;
    while (bits > 32 && ftruncate(fd, 1LL << bits) < 0) {
        EQ(EFBIG, errno);
        bits--;
    }
    EQ(1LL << bits, SIZE("f"));
    EQ(1, pwrite(fd, "x", 1, (1LL << bits) - 1));
    EQ(1LL << bits, SIZE("f"));
    ERR(EINVAL, pwrite(fd, "x", 1, INT64_MAX));
    OK(ftruncate(fd, 0));
}

static volatile sig_atomic_t signals;
static void on_signal(int number)
{
    signals = signals + (number != 0);
}

TEST(file_size_limit)
{
    struct rlimit limit = {100000, 100000};
    int fd = new_file("f");
    OK(setrlimit(RLIMIT_FSIZE, &limit));
    signal(SIGXFSZ, on_signal);
    fill(fd, 99990, 10, 'x');
    ERR(EFBIG, pwrite(fd, "x", 1, 100000));
    EQ(1, signals);
    char text[20] = "yyyyyyyyyyyyyyyyyyy";
    EQ(10, pwrite(fd, text, 20, 99990)); /* what fits */
    ERR(EFBIG, ftruncate(fd, 100001));
    EQ(2, signals);
    ERR(EFBIG, truncate("f", 200000));
    EQ(3, signals);
    ERR(EFBIG, pwrite(fd, "x", 1, 1LL << 40));
    EQ(4, signals);
    OK(ftruncate(fd, 100000));
    EQ(100000, SIZE("f"));
    turn();
    if (fallocate(fd, 0, 99999, 2) == 0) {
        FAIL("fallocate beyond the limit: expected EFBIG, saw success");
    }
    TRUE(errno == EFBIG || errno == EOPNOTSUPP);
    signal(SIGXFSZ, SIG_DFL);
    pid_t pid = fork_child();
    if (pid == 0) {
        _exit((int)pwrite(fd, "x", 1, 100000));
    }
    int status = 0;
    OK(waitpid(pid, &status, 0));
    TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
}

TEST(seek_hole_and_data)
{
    enum { MB = 1 << 20 };
    int fd = new_file("f");
    fill(fd, MB, MB, 'd');
    OK(ftruncate(fd, 4 * MB));
    OK(fsync(fd));
    EQ(MB, MAY(lseek(fd, MB, SEEK_DATA)));
    long long hole = lseek(fd, MB, SEEK_HOLE);
    if (hole == 4 * MB) {
        skip_test("holes are not told here");
    }
    EQ(2 * MB, hole);
    EQ(0, lseek(fd, 0, SEEK_HOLE));
    EQ(MB, lseek(fd, 0, SEEK_DATA));
    EQ(MB + 5, lseek(fd, MB + 5, SEEK_DATA));
    EQ(3 * MB, lseek(fd, 3 * MB, SEEK_HOLE));
    ERR(ENXIO, lseek(fd, 2 * MB, SEEK_DATA));
    ERR(ENXIO, lseek(fd, 4 * MB, SEEK_DATA));
    ERR(ENXIO, lseek(fd, 4 * MB, SEEK_HOLE));
    ERR(ENXIO, lseek(fd, -1, SEEK_DATA));
    ERR(ENXIO, lseek(fd, -1, SEEK_HOLE));
    OK(ftruncate(fd, 2 * MB));
    EQ(2 * MB, lseek(fd, MB, SEEK_HOLE)); /* the end is a hole */
    OK(ftruncate(fd, 0));
    ERR(ENXIO, lseek(fd, 0, SEEK_HOLE));
}

/* Data not yet written out are data as well. */
TEST(seek_data_of_dirty_pages)
{
    int fd = new_file("f");
    fill(fd, 1 << 20, 4096, 'd');
    EQ(1 << 20, lseek(fd, 1 << 20, SEEK_DATA));
    TRUE(lseek(fd, 0, SEEK_DATA) <= 1 << 20);
    EQ((1 << 20) + 4096, lseek(fd, 1 << 20, SEEK_HOLE));
}

TEST(fallocate_allocates)
{
    int fd = new_file("f");
    EQ(3, write(fd, "abc", 3));
    MAY(fallocate(fd, 0, 0, 100000));
    EQ(100000, SIZE("f"));
    TRUE(stat_of("f").st_blocks * 512LL >= 100000);
    TRUE(is_all(fd, 3, 99997, 0));
    OK(fallocate(fd, 0, 50, 10)); /* content stays */
    TRUE(is_all(fd, 0, 1, 'a'));
    EQ(100000, SIZE("f"));
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 100000, 100000));
    EQ(100000, SIZE("f"));
    OK(ftruncate(fd, 200000));
    TRUE(is_all(fd, 100000, 100000, 0));
    MOVES("f", "mc", fallocate(fd, 0, 200000, 10));
}

TEST(fallocate_punches)
{
    int fd = new_file("f");
    fill(fd, 0, 100000, 'x');
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    MAY(fallocate(fd, punch, 10000, 30000));
    TRUE(is_all(fd, 0, 10000, 'x'));
    TRUE(is_all(fd, 10000, 30000, 0));
    TRUE(is_all(fd, 40000, 60000, 'x'));
    OK(fallocate(fd, punch, 90000, 1000000)); /* beyond the end */
    EQ(100000, SIZE("f"));
    TRUE(is_all(fd, 90000, 10000, 0));
    OK(fallocate(fd, punch, 50001, 7));
    TRUE(is_all(fd, 50001, 7, 0));
    TRUE(is_all(fd, 50008, 1, 'x'));
    OK(fsync(fd));
    long long before = stat_of("f").st_blocks;
    OK(fallocate(fd, punch, 0, 100000));
    OK(fsync(fd));
    TRUE(stat_of("f").st_blocks < before);
    MOVES("f", "mc", fallocate(fd, punch, 0, 4096));
}

TEST(fallocate_zeroes)
{
    int fd = new_file("f");
    fill(fd, 0, 100000, 'x');
    MAY(fallocate(fd, FALLOC_FL_ZERO_RANGE, 5001, 50000));
    TRUE(is_all(fd, 0, 5001, 'x'));
    TRUE(is_all(fd, 5001, 50000, 0));
    TRUE(is_all(fd, 55001, 44999, 'x'));
    OK(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 90000, 20000));
    EQ(100000, SIZE("f"));
    OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 90000, 20000));
    EQ(110000, SIZE("f"));
    TRUE(is_all(fd, 90000, 20000, 0));
}

TEST(fallocate_errors)
{
    int fd = new_file("f");
    MAY(fallocate(fd, 0, 0, 10));
    ERR(EINVAL, fallocate(fd, 0, -1, 10));
    ERR(EINVAL, fallocate(fd, 0, 0, 0));
    ERR(EINVAL, fallocate(fd, 0, 0, -1));
    ERR(EFBIG, fallocate(fd, 0, INT64_MAX - 5, 10));
    ERR(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
    ERR(EOPNOTSUPP, fallocate(fd, 0x4000, 0, 10));
    ERR(EBADF, fallocate(-1, 0, 0, 10));
    ERR(EBADF, fallocate(FD(open("f", O_RDONLY)), 0, 0, 10));
    int p[2];
    OK(pipe(p));
    ERR(ESPIPE, fallocate(p[1], 0, 0, 10));
    EQ(10, SIZE("f"));
}

TEST(copy_file_range_copies)
{
    int in = new_file("in");
    int out = new_file("out");
    fill(in, 0, 100000, 'a');
    fill(in, 100000, 100000, 'b');
    off_t from = 50000;
    off_t to = 10;
    for (size_t left = 100000; left > 0;) {
        ssize_t n = copy_file_range(in, &from, out, &to, left, 0);
        TRUE(n > 0);
        left -= (size_t)n;
    }
    EQ(150000, from);
    EQ(100010, to);
    EQ(100010, SIZE("out"));
    TRUE(is_all(out, 0, 10, 0));
    TRUE(is_all(out, 10, 50000, 'a'));
    TRUE(is_all(out, 50010, 50000, 'b'));
    from = 190000;
    to = 0;
    EQ(10000, copy_file_range(in, &from, out, &to, 50000, 0)); /* to the end of the file */
    EQ(0, copy_file_range(in, &from, out, &to, 50000, 0));
    from = 0;
    to = 150000;
    EQ(1000, copy_file_range(in, &from, in, &to, 1000, 0)); /* within one file */
    TRUE(is_all(in, 150000, 1000, 'a'));
    EQ(10, lseek(in, 10, SEEK_SET));
    EQ(0, lseek(out, 0, SEEK_SET));
    EQ(100, copy_file_range(in, NULL, out, NULL, 100, 0));
    EQ(110, lseek(in, 0, SEEK_CUR));
    EQ(100, lseek(out, 0, SEEK_CUR));
}

TEST(copy_file_range_errors)
{
    int in = new_file("in");
    int out = new_file("out");
    fill(in, 0, 1000, 'a');
    off_t a = 0;
    off_t b = 0;
    ERR(EBADF, copy_file_range(in, &a, FD(open("out", O_RDONLY)), &b, 10, 0));
    ERR(EBADF, copy_file_range(FD(open("in", O_WRONLY)), &a, out, &b, 10, 0));
    ERR(EBADF, copy_file_range(in, &a, FD(open("out", O_WRONLY | O_APPEND)), &b, 10, 0));
    ERR(EBADF, copy_file_range(-1, &a, out, &b, 10, 0));
    ERR(EINVAL, copy_file_range(in, &a, out, &b, 10, 1));
    b = 5;
    ERR(EINVAL, copy_file_range(in, &a, in, &b, 10, 0)); /* overlap */
    OK(mkdir("d", 0755));
    ERR(EISDIR, copy_file_range(FD(open("d", O_RDONLY)), &a, out, &b, 10, 0));
    int p[2];
    OK(pipe(p));
    ERR(EINVAL, copy_file_range(p[0], NULL, out, &b, 10, 0));
    b = INT64_MAX;
    ERR(EFBIG, copy_file_range(in, &a, out, &b, 10, 0));
}

TEST(sendfile_copies)
{
    int in = new_file("in");
    int out = new_file("out");
    fill(in, 0, 100000, 'a');
    off_t at = 10;
    EQ(50000, sendfile(out, in, &at, 50000));
    EQ(50010, at);
    TRUE(is_all(out, 0, 50000, 'a'));
}

TEST(append_goes_to_the_end)
{
    int fd = FD(open("f", O_RDWR | O_CREAT | O_APPEND, 0644));
    int other = FD(open("f", O_WRONLY));
    EQ(3, write(fd, "abc", 3));
    EQ(5, pwrite(other, "hello", 5, 0));
    EQ(0, lseek(fd, 0, SEEK_SET));
    stay(); /* the kernel moves the position by the size that it knows */
    EQ(1, write(fd, "!", 1));
    EQ(6, lseek(fd, 0, SEEK_CUR));
    CONTENT("f", "hello!");
    EQ(1, pwrite(fd, "?", 1, 0)); /* Linux appends here as well */
    CONTENT("f", "hello!?");
    OK(truncate("f", 2));
    EQ(1, write(fd, "y", 1));
    CONTENT("f", "hey");
    OK(fcntl(fd, F_SETFL, 0));
    EQ(1, pwrite(fd, "H", 1, 0));
    CONTENT("f", "Hey");
}

/* No record is lost or torn, whoever writes. */
TEST(append_from_several_processes)
{
    enum { PROCESSES = 4, RECORDS = 200, SIZE_OF = 37 };
    OK(close(new_file("f")));
    pid_t pid[PROCESSES];
    for (int p = 0; p < PROCESSES; p++) {
        CHILD(pid[p])
        {
            int fd = FD(open("f", O_WRONLY | O_APPEND));
            for (int i = 0; i < RECORDS; i++) {
                char text[SIZE_OF + 1];
                snprintf(text, sizeof text, "%04d %04d %026d\n", p, i, i);
                EQ(SIZE_OF, write(fd, text, SIZE_OF));
            }
            OK(close(fd));
        }
    }
    for (int p = 0; p < PROCESSES; p++) {
        join(pid[p]);
    }
    EQ(PROCESSES * RECORDS * SIZE_OF, SIZE("f"));
    int next[PROCESSES] = {0};
    FILE *f = fopen("f", "r");
    TRUE(f != NULL);
    char line[100];
    while (fgets(line, sizeof line, f) != NULL) {
        int p = atoi(line);
        TRUE(strlen(line) == SIZE_OF && p >= 0 && p < PROCESSES);
        EQ(next[p]++, atoi(line + 5));
        EQ(atoi(line + 5), atoi(line + 10));
    }
    for (int p = 0; p < PROCESSES; p++) {
        EQ(RECORDS, next[p]);
    }
}

TEST(direct_io)
{
    enum { BLOCK = 4096 };
    turn();
    int fd = open("f", O_RDWR | O_CREAT | O_DIRECT, 0644);
    if (fd < 0 && errno == EINVAL) {
        skip_test("no O_DIRECT here");
    }
    OK(fd);
    char *p = aligned_alloc(BLOCK, 4L * BLOCK);
    memset(p, 'd', 4L * BLOCK);
    EQ(4 * BLOCK, pwrite(fd, p, 4L * BLOCK, 0));
    EQ(4 * BLOCK, SIZE("f"));
    memset(p, 0, 4L * BLOCK);
    EQ(2 * BLOCK, pread(fd, p, 2L * BLOCK, BLOCK));
    EQ('d', p[0]);
    EQ('d', p[2 * BLOCK - 1]);
    EQ(0, pread(fd, p, BLOCK, 8L * BLOCK));
    int plain = FD(open("f", O_RDWR));
    fill(plain, BLOCK, BLOCK, 'p'); /* each sees the other */
    EQ(BLOCK, pread(fd, p, BLOCK, BLOCK));
    EQ('p', p[0]);
    memset(p, 'D', BLOCK);
    EQ(BLOCK, pwrite(fd, p, BLOCK, BLOCK));
    TRUE(is_all(plain, BLOCK, BLOCK, 'D'));
    EQ(1, pwrite(plain, "x", 1, 4L * BLOCK)); /* a last block that is not full */
    EQ(1, pread(fd, p, BLOCK, 4L * BLOCK));
    turn();
    if (pwrite(fd, p + 1, 100, 1) < 0) {
        EQ(EINVAL, errno); /* or it can do that too */
    }
    free(p);
}

TEST(write_times)
{
    int fd = new_file("f");
    EQ(3, write(fd, "abc", 3));
    char c;
    MOVES("f", "mc", pwrite(fd, "x", 1, 0));
    MOVES("f", "", pwrite(fd, "x", 0, 0)); /* nothing written, nothing changed */
    MOVES("f", "mc", ftruncate(fd, 10));
    MOVES("f", "mc", close(FD(open("f", O_WRONLY | O_TRUNC))));
    EQ(3, pwrite(fd, "abc", 3, 0));
    OK(fsync(fd));
    make_old("f");
    EQ(1, pread(fd, &c, 1, 0));
    OK(close(fd)); /* after the close of the last writer the times stand */
    struct stat st = stat_of("f");
    tick();
    EQ(OLD, st.st_mtime);
    EQ(OLD, stat_of("f").st_mtime);
    TRUE(same(st.st_ctim, stat_of("f").st_ctim));
}

TEST(read_moves_atime)
{
    char c;
    make_file("f", "abc");
    int fd = FD(open("f", O_RDONLY));
    make_old("f");
    struct stat before = stat_of("f");
    EQ(1, read(fd, &c, 1));
    struct stat st = stat_of("f");
    EQ(OLD, st.st_mtime);
    TRUE(same(before.st_ctim, st.st_ctim));
    if (st.st_atime == OLD) {
        skip_test("mounted with noatime");
    }
}

TEST(sync_calls)
{
    int fd = new_file("f");
    fill(fd, 0, 100000, 'x');
    OK(fdatasync(fd));
    OK(fsync(fd));
    OK(fsync(FD(open("f", O_RDONLY))));
    OK(mkdir("d", 0755));
    int d = FD(open("d", O_RDONLY | O_DIRECTORY));
    OK(fsync(d));
    OK(fdatasync(d));
    OK(syncfs(fd));
    OK(sync_file_range(fd, 0, 100000, SYNC_FILE_RANGE_WRITE));
    OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 ? 0 : -1);
    TRUE(is_all(fd, 0, 100000, 'x'));
    ERR(EBADF, fsync(-1));
    ERR(EBADF, fdatasync(-1));
    int p[2];
    OK(pipe(p));
    ERR(EINVAL, fsync(p[0]));
    OK(unlink("f"));
    OK(fsync(fd));
}
