/* peer/stats.h -- the answer to `stats`, of every server. */
#pragma once

#include "peer/link.h"

struct stats;

/* Answers a `stats` request in the format that it asks for. `labels`: as metrics_options.labels,
 * for Prometheus. What does not fit into one answer is refused (-EMSGSIZE): half of it helps
 * nobody. */
void peer_answer_stats(struct peer_request *r, struct stats *s, const char *labels);
