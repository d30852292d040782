/* Files appear whole or not at all, and every failure is a sentence that names the file. */
#define _GNU_SOURCE
#include "scratch.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void expect_content(const char *path, const char *text)
{
    brt_mapping file;
    assert_ok(brt_file_map(&file, path));
    assert_int_equal(file.size, strlen(text));
    assert_memory_equal(file.data, text, file.size);
    brt_file_unmap(&file);
}

static size_t entries_in(const char *directory)
{
    size_t count = 0;
    DIR *stream = opendir(directory);
    assert_non_null(stream);
    for (struct dirent *found; (found = readdir(stream));)
        count += strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0;
    closedir(stream);
    return count;
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

static void mapping_gives_the_bytes(void **state)
{
    (void)state;
    assert_ok(brt_file_replace("text", "some text", 9));
    expect_content("text", "some text");
}

static void an_empty_file_is_empty(void **state)
{
    (void)state;
    brt_mapping file = {(const unsigned char *)"x", 1};
    assert_ok(brt_file_replace("empty", NULL, 0));
    assert_ok(brt_file_map(&file, "empty"));
    assert_null(file.data);
    assert_int_equal(file.size, 0);
    brt_file_unmap(&file);
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    brt_mapping file;
    expect_failure(brt_file_map(&file, "absent"), BRT_ERROR_IO, "absent: No such file");
    expect_failure(brt_file_map(&file, "/tmp"), BRT_ERROR_IO, "/tmp is a directory");
    assert_int_equal(mkfifo("pipe", 0600), 0);
    expect_failure(brt_file_map(&file, "pipe"), BRT_ERROR_IO, "pipe is a device, pipe or socket");
}

static void a_mapping_survives_replacement(void **state)
{
    (void)state;
    brt_mapping file;
    assert_ok(brt_file_replace("model", "before", 6));
    assert_ok(brt_file_map(&file, "model"));
    assert_ok(brt_file_replace("model", "after!", 6));
    assert_memory_equal(file.data, "before", 6);
    brt_file_unmap(&file);
    expect_content("model", "after!");
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

static void nothing_changes_before_the_commit(void **state)
{
    (void)state;
    brt_writer *writer;
    assert_ok(brt_make_directory("commit"));
    assert_ok(brt_file_replace("commit/file", "old", 3));
    assert_ok(brt_writer_open(&writer, "commit/file"));
    assert_ok(brt_writer_write(writer, "ne", 2));
    assert_ok(brt_writer_write(writer, NULL, 0));
    assert_ok(brt_writer_write(writer, "wer", 3));
    expect_content("commit/file", "old");
    assert_ok(brt_writer_commit(writer));
    expect_content("commit/file", "newer");
    assert_int_equal(entries_in("commit"), 1);
}

static void an_abandoned_file_leaves_nothing(void **state)
{
    (void)state;
    brt_writer *writer;
    assert_ok(brt_make_directory("abandon"));
    assert_ok(brt_writer_open(&writer, "abandon/file"));
    assert_ok(brt_writer_write(writer, "text", 4));
    assert_int_equal(entries_in("abandon"), 1);
    brt_writer_abandon(writer);
    assert_int_equal(entries_in("abandon"), 0);
    brt_writer_abandon(NULL);
}

static void two_writers_do_not_meet(void **state)
{
    (void)state;
    brt_writer *first, *second;
    assert_ok(brt_make_directory("two"));
    assert_ok(brt_writer_open(&first, "two/file"));
    assert_ok(brt_writer_open(&second, "two/file"));
    assert_ok(brt_writer_write(first, "first", 5));
    assert_ok(brt_writer_write(second, "second", 6));
    assert_ok(brt_writer_commit(first));
    expect_content("two/file", "first");
    assert_ok(brt_writer_commit(second));
    expect_content("two/file", "second");
    assert_int_equal(entries_in("two"), 1);
}

static void a_new_file_has_the_usual_permissions(void **state)
{
    (void)state;
    struct stat info;
    mode_t before = umask(027);
    brt_status status = brt_file_replace("mode", "x", 1);
    umask(before);
    assert_ok(status);
    assert_int_equal(stat("mode", &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
}

static void a_large_file_arrives_whole(void **state)
{
    (void)state;
    size_t size = (3 << 20) + 1;
    unsigned char *data = malloc(size);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i * 31 >> 4);
    assert_ok(brt_file_replace("large", data, size));
    brt_mapping file;
    assert_ok(brt_file_map(&file, "large"));
    assert_int_equal(file.size, size);
    assert_memory_equal(file.data, data, size);
    brt_file_unmap(&file);
    free(data);
}

/* ---- a system that stutters or fails: these stand before the C library's own ------------------------------ */

static bool interrupts; /* every other call is interrupted, and a write takes 7 bytes at most */
static bool fails_to_sync;
static unsigned calls;

static bool is_interrupted(void)
{
    errno = EINTR;
    return interrupts && calls++ % 2 == 0;
}

ssize_t write(int descriptor, const void *data, size_t size)
{
    if (is_interrupted())
        return -1;
    return syscall(SYS_write, descriptor, data, interrupts && size > 7 ? 7 : size);
}

int fsync(int descriptor)
{
    if (is_interrupted())
        return -1;
    if (!fails_to_sync)
        return (int)syscall(SYS_fsync, descriptor);
    errno = EIO;
    return -1;
}

static void interruptions_and_short_writes_are_overcome(void **state)
{
    (void)state;
    interrupts = true;
    brt_status status = brt_file_replace("stutter", "a text of more than 7 bytes", 27);
    interrupts = false;
    assert_ok(status);
    assert_true(calls > 10);
    expect_content("stutter", "a text of more than 7 bytes");
}

static void a_failed_sync_leaves_the_old_file(void **state)
{
    (void)state;
    assert_ok(brt_make_directory("sync"));
    assert_ok(brt_file_replace("sync/file", "old", 3));
    fails_to_sync = true;
    brt_status status = brt_file_replace("sync/file", "newer", 5);
    fails_to_sync = false;
    expect_failure(status, BRT_ERROR_IO, "cannot write sync/file: syncing after 5 bytes: Input/output error");
    expect_content("sync/file", "old");
    assert_int_equal(entries_in("sync"), 1);
}

/* ---- faults ----------------------------------------------------------------------------------------------- */

/* A limit on the size of files stands for a full disk: the write comes up short, then fails. */
static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    char text[3000] = {0};
    struct rlimit before, small = {.rlim_cur = 1000};
    assert_ok(brt_make_directory("full"));
    assert_ok(brt_file_replace("full/file", "old", 3));
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    brt_status status = brt_file_replace("full/file", text, sizeof text);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    expect_failure(status, BRT_ERROR_IO, "cannot write full/file: writing after 1000 bytes: File too large");
    expect_content("full/file", "old");
    assert_int_equal(entries_in("full"), 1);
}

static void an_unwritable_directory_is_named(void **state)
{
    (void)state;
    bool privileged = geteuid() == 0;
    assert_int_equal(chmod(scratch, 0755), 0);
    assert_ok(brt_make_directory("closed"));
    assert_int_equal(chmod("closed", 0555), 0);
    if (privileged)
        assert_int_equal(seteuid(65534), 0);
    brt_status written = brt_file_replace("closed/file", "x", 1);
    expect_failure(written, BRT_ERROR_IO, "cannot write closed/file: creating closed/file.");
    expect_failure(brt_make_directory("closed/inside"), BRT_ERROR_IO, "directory closed/inside: Permission denied");
    if (privileged)
        assert_int_equal(seteuid(0), 0);
}

static void a_target_that_cannot_be_replaced_fails_early(void **state)
{
    (void)state;
    brt_writer *writer;
    assert_ok(brt_make_directory("target"));
    expect_failure(brt_writer_open(&writer, "target"), BRT_ERROR_IO, "cannot write target: it is a directory");
    assert_null(writer);
    expect_failure(brt_writer_open(&writer, "nowhere/file"), BRT_ERROR_IO, "No such file or directory");
    assert_null(writer);
}

static void a_commit_that_fails_is_told(void **state)
{
    (void)state;
    brt_writer *writer;
    assert_ok(brt_make_directory("gone"));
    assert_ok(brt_writer_open(&writer, "gone/file"));
    assert_ok(brt_make_directory("gone/file"));
    expect_failure(brt_writer_commit(writer), BRT_ERROR_IO, "cannot write gone/file: renaming");
    assert_int_equal(entries_in("gone"), 1);
}

/* ---- directories and paths -------------------------------------------------------------------------------- */

static void directories_are_made_in_depth(void **state)
{
    (void)state;
    assert_ok(brt_make_directory("a/b//c/"));
    assert_ok(brt_make_directory("a/b/c"));
    assert_ok(brt_make_directory("/"));
    assert_true(brt_file_exists("a/b/c"));
    assert_false(brt_file_exists("a/b/d"));
    assert_ok(brt_file_replace("a/file", "x", 1));
    expect_failure(brt_make_directory("a/file"), BRT_ERROR_IO, "cannot make the directory a/file");
    expect_failure(brt_make_directory("a/file/b"), BRT_ERROR_IO, "cannot make the directory a/file");
    expect_failure(brt_make_directory(""), BRT_ERROR_IO, "cannot make the directory");
}

static void expect_join(const char *directory, const char *name, const char *expected)
{
    char *path = brt_path_join(directory, name);
    assert_string_equal(path, expected);
    free(path);
}

static void paths_are_joined_by_one_slash(void **state)
{
    (void)state;
    expect_join("runs", "file", "runs/file");
    expect_join("runs/", "file", "runs/file");
    expect_join("/", "file", "/file");
    expect_join("", "file", "file");
}

/* ---- a directory of one's own --------------------------------------------------------------------------- */

static void a_directory_is_locked_once(void **state)
{
    (void)state;
    int first, second;
    assert_ok(brt_make_directory("locked"));
    assert_ok(brt_directory_lock(&first, "locked"));
    expect_failure(brt_directory_lock(&second, "locked"), BRT_ERROR_IO, "locked is in use");
    assert_int_equal(second, -1);
    close(first);
    assert_ok(brt_directory_lock(&second, "locked"));
    close(second);
    expect_failure(brt_directory_lock(&first, "locked/not"), BRT_ERROR_IO, "locked/not");
}

static void leftovers_of_killed_writers_are_removed_and_nothing_else(void **state)
{
    (void)state;
    static const char *const kept[] = {"swept/a", "swept/a.tmp", "swept/a.1-.tmp", "swept/a.1-2.tmpx",
                                       "swept/b.1-2.tmp"};
    static const char *const removed[] = {"swept/a.1-2.tmp", "swept/a.31337-0.tmp"};
    assert_ok(brt_make_directory("swept"));
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        assert_ok(brt_file_replace(kept[i], "x", 1));
    for (size_t i = 0; i < sizeof removed / sizeof removed[0]; i++)
        assert_ok(brt_file_replace(removed[i], "x", 1));
    brt_remove_leftovers("swept", "a");
    assert_int_equal(entries_in("swept"), sizeof kept / sizeof kept[0]);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        assert_true(brt_file_exists(kept[i]));
    brt_remove_leftovers("nowhere", "a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mapping_gives_the_bytes),
        cmocka_unit_test(an_empty_file_is_empty),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(a_mapping_survives_replacement),
        cmocka_unit_test(nothing_changes_before_the_commit),
        cmocka_unit_test(an_abandoned_file_leaves_nothing),
        cmocka_unit_test(two_writers_do_not_meet),
        cmocka_unit_test(a_new_file_has_the_usual_permissions),
        cmocka_unit_test(a_large_file_arrives_whole),
        cmocka_unit_test(interruptions_and_short_writes_are_overcome),
        cmocka_unit_test(a_failed_sync_leaves_the_old_file),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(an_unwritable_directory_is_named),
        cmocka_unit_test(a_target_that_cannot_be_replaced_fails_early),
        cmocka_unit_test(a_commit_that_fails_is_told),
        cmocka_unit_test(directories_are_made_in_depth),
        cmocka_unit_test(paths_are_joined_by_one_slash),
        cmocka_unit_test(a_directory_is_locked_once),
        cmocka_unit_test(leftovers_of_killed_writers_are_removed_and_nothing_else),
    };
    return cmocka_run_group_tests_name("file", tests, enter_scratch, leave_scratch);
}
