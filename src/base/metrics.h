/*
 * base/metrics.h -- statistics in the text format of Prometheus (version 0.0.4).
 *
 * Names: "opendfs_" and the groups of the tree, with "_total" behind counters, "_seconds" behind
 * histograms and "_bytes" where the leaf says so. The group below "messages" is the label
 * `message`, the one below "targets" the label `target`. Leaves of equal names (one for each
 * connection, say) are added up. Those with such a label that are zero are left out.
 */
#pragma once

#include "base/stats.h"
#include "base/text.h"

struct metrics_options {
    const char
        *labels; /* of all samples, as they stand in the text: "cluster=\"demo\""; not NULL */
    const char *prefix; /* only paths of the tree that begin with this; NULL: all */
};
/* Appends; out->cut tells that it did not fit. Any thread. -ENOMEM: nothing was added. */
NODISCARD int metrics_to_text(struct stats *s, const struct metrics_options *opt, struct text *out);
/* The value of a label: what would end it is escaped. Appends. */
void metrics_label_text(struct text *out, const char *value);
