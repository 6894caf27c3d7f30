#include "base/metrics.h"

#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

static char out[200000];

static void render(struct stats *s, const char *labels, const char *prefix)
{
    struct text t;
    text_init(&t, out, sizeof out);
    CHECK_OK(metrics_to_text(s, &(struct metrics_options){.labels = labels, .prefix = prefix}, &t));
    CHECK_TRUE(!t.cut);
}

TEST(metrics_name_counters_and_gauges)
{
    CLEANUP(stats_freep) struct stats *root = stats_new(NULL, "");
    struct stats *disk = stats_new(root, "disk"), *odd = stats_new(root, "odd.0-x");
    struct stats_counter bytes = {0}, reads = {0};
    struct stats_gauge queued = {0};
    stats_add_counter(disk, "read_bytes", &bytes);
    stats_add_gauge(disk, "queued", &queued);
    stats_add_counter(odd, "reads", &reads);
    stats_count(&bytes, 4096);
    stats_gauge_set(&queued, -3);
    render(root, "", NULL);
    CHECK_TEXT(out, "# HELP opendfs_disk_read_bytes_total Bytes read from the disk.\n"
                    "# TYPE opendfs_disk_read_bytes_total counter\n"
                    "opendfs_disk_read_bytes_total 4096\n"
                    "# HELP opendfs_disk_queued Statistics disk/queued\n"
                    "# TYPE opendfs_disk_queued gauge\nopendfs_disk_queued -3\n"
                    "# HELP opendfs_odd_0_x_reads_total Statistics odd.0-x/reads\n"
                    "# TYPE opendfs_odd_0_x_reads_total counter\nopendfs_odd_0_x_reads_total 0\n");
    render(root, "daemon=\"meta.0\"", "disk/q");
    CHECK_TEXT(out, "# HELP opendfs_disk_queued Statistics disk/queued\n"
                    "# TYPE opendfs_disk_queued gauge\n"
                    "opendfs_disk_queued{daemon=\"meta.0\"} -3\n");
}

TEST(metrics_label_messages_and_leave_out_those_that_never_came)
{
    CLEANUP(stats_freep) struct stats *root = stats_new(NULL, "");
    struct stats *server = stats_new(root, "server"), *messages = stats_new(server, "messages");
    struct stats *create = stats_new(messages, "create"), *link = stats_new(messages, "link");
    struct stats *unlink = stats_new(messages, "unlink");
    struct stats_counter c[3] = {{0}}, unknown = {0};
    struct stats_histogram h[3] = {{0}};
    stats_add_counter(messages, "unknown", &unknown);
    struct stats *all[] = {create, link, unlink};
    for (size_t i = 0; i < 3; i++) {
        stats_add_counter(all[i], "requests", &c[i]);
        stats_add_histogram(all[i], "latency", &h[i]);
    }
    stats_count(&c[0], 2);
    stats_count(&c[2], 7);
    render(root, "a=\"b\"", NULL);
    CHECK_TRUE(strstr(out, "opendfs_server_messages_unknown_total{a=\"b\"} 0\n") != NULL);
    CHECK_TRUE(strstr(out,
                      "# TYPE opendfs_server_messages_requests_total counter\n"
                      "opendfs_server_messages_requests_total{a=\"b\",message=\"create\"} 2\n"
                      "opendfs_server_messages_requests_total{a=\"b\",message=\"unlink\"} 7\n") !=
               NULL);
    CHECK_TRUE(strstr(out, "latency") == NULL);
}

TEST(metrics_add_up_what_has_one_name)
{
    CLEANUP(stats_freep) struct stats *root = stats_new(NULL, "");
    struct stats_counter c[3] = {{0}};
    struct stats_histogram h[3] = {{0}};
    for (size_t i = 0; i < 3; i++) {
        struct stats *s = stats_new(root, "connection");
        stats_add_counter(s, "requests", &c[i]);
        stats_add_histogram(s, "wait_time", &h[i]);
        stats_count(&c[i], 10 + i);
        stats_sample(&h[i], 2000);
    }
    render(root, "", NULL);
    CHECK_TRUE(strstr(out, "\nopendfs_connection_requests_total 33\n") != NULL);
    CHECK_TRUE(strstr(out, "\nopendfs_connection_wait_seconds_count 3\n") != NULL);
    CHECK_TRUE(strstr(out, "\nopendfs_connection_wait_seconds_sum 0.000006000\n") != NULL);
}

TEST(metrics_show_histograms_by_powers_of_two)
{
    CLEANUP(stats_freep) struct stats *root = stats_new(NULL, "");
    struct stats_histogram h = {0};
    stats_add_histogram(root, "sync_ns", &h);
    const uint64_t samples[] = {0, 1999, 2000, 3999, 4000, 1500000000, UINT64_MAX / 8};
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        stats_sample(&h, samples[i]);
    }
    render(root, "x=\"y\"", NULL);
    static const char *const lines[] = {
        "# TYPE opendfs_sync_seconds histogram\n",
        "opendfs_sync_seconds_bucket{x=\"y\",le=\"0.000002000\"} 2\n",
        "opendfs_sync_seconds_bucket{x=\"y\",le=\"0.000004000\"} 4\n",
        "opendfs_sync_seconds_bucket{x=\"y\",le=\"0.000008000\"} 5\n",
        "opendfs_sync_seconds_bucket{x=\"y\",le=\"1.048576000\"} 5\n",
        "opendfs_sync_seconds_bucket{x=\"y\",le=\"2.097152000\"} 6\n",
        "opendfs_sync_seconds_bucket{x=\"y\",le=\"+Inf\"} 7\n",
        "opendfs_sync_seconds_count{x=\"y\"} 7\n",
    };
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
        CHECK_TRUE(strstr(out, lines[i]) != NULL);
    }
}

TEST(metrics_escape_labels)
{
    struct text t;
    text_init(&t, out, sizeof out);
    metrics_label_text(&t, "a\"b\\c\nd");
    CHECK_TEXT(out, "a\\\"b\\\\c\\nd");
}

TEST_TORTURE(metrics_without_memory_add_nothing)
{
    CLEANUP(stats_freep) struct stats *root = stats_new(NULL, "");
    struct stats_histogram h = {0};
    struct text t;
    TRY_PTR(root);
    stats_add_histogram(root, "sync_ns", &h);
    text_init(&t, out, sizeof out);
    int rc = metrics_to_text(root, &(struct metrics_options){.labels = ""}, &t);
    if (rc < 0) {
        CHECK_EQ(t.len, 0);
    }
    TRY(rc);
}

TEST(metrics_label_targets)
{
    CLEANUP(stats_freep) struct stats *client = stats_new(NULL, "client");
    struct stats *targets = stats_new(client, "targets");
    struct stats *one = stats_new(targets, "1"), *two = stats_new(targets, "2");
    struct stats_counter c[2] = {{0}};
    stats_add_counter(one, "reads", &c[0]);
    stats_add_counter(two, "reads", &c[1]);
    stats_count(&c[0], 5);
    render(client, "", NULL);
    CHECK_TRUE(strstr(out, "opendfs_client_targets_reads_total{target=\"1\"} 5\n") != NULL);
    CHECK_TRUE(strstr(out, "target=\"2\"") == NULL);
    stats_count(&c[1], 1);
    render(client, "cluster=\"x\"", NULL);
    CHECK_TRUE(strstr(out, "_total{cluster=\"x\",target=\"2\"} 1\n") != NULL);
}
