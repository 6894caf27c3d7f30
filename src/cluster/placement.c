/*
 * cluster/placement.c -- greedy choice of chains by load, shared pairs and head duty.
 *
 * One chain at a time: its first member is the target that lacks most of its share, each further
 * one the target of another failure domain with the smallest (pairs shared with the members so far,
 * relative load). The head is then the member that is head least often. O(chains x targets x
 * copies): done when targets come, never per request.
 */
#include "cluster/placement.h"

#include "base/mem.h"

#include <string.h>

struct work {
    const struct cluster_placement *p;
    uint32_t *load; /* chains per target, by place in p->target */
    uint32_t *heads;
    uint32_t *pairs; /* target_count squared */
    uint64_t weight_sum;
};

static void work_fini(struct work *w)
{
    mem_free(w->load);
    mem_free(w->heads);
    mem_free(w->pairs);
}

/* target_count: it is not among them. */
static size_t place_of(const struct cluster_placement *p, uint32_t target)
{
    size_t low = 0, high = p->target_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->target[middle].id < target) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < p->target_count && p->target[low].id == target ? low : p->target_count;
}

/* Counts one chain in. Members that are no longer placeable targets are not counted. */
static void work_count(struct work *w, const struct cluster_row *row)
{
    size_t n = w->p->target_count;
    for (size_t i = 0; i < row->count; i++) {
        size_t a = place_of(w->p, row->member[i].target);
        if (a == n) {
            continue;
        }
        w->load[a]++;
        w->heads[a] += i == 0;
        for (size_t j = 0; j < row->count; j++) {
            size_t b = place_of(w->p, row->member[j].target);
            if (b != n && b != a) {
                w->pairs[a * n + b]++;
            }
        }
    }
}

static int work_init(struct work *w, const struct cluster_placement *p)
{
    size_t n = p->target_count;
    *w = (struct work){.p = p,
                       .load = mem_calloc(n, sizeof *w->load),
                       .heads = mem_calloc(n, sizeof *w->heads),
                       .pairs = mem_calloc(n * n, sizeof *w->pairs)};
    if (w->load == NULL || w->heads == NULL || w->pairs == NULL) {
        work_fini(w);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        w->weight_sum += p->target[i].weight;
    }
    for (size_t i = 0; i < p->row_count; i++) {
        work_count(w, &p->row[i]);
    }
    return 0;
}

static bool same_domain(const struct cluster_placement *p, size_t a, size_t b)
{
    switch (p->domain) {
    case PROTO_DOMAIN_RACK:
        return p->target[a].rack_key == p->target[b].rack_key;
    case PROTO_DOMAIN_HOST:
        return p->target[a].host_key == p->target[b].host_key;
    case PROTO_DOMAIN_TARGET:
        break;
    }
    return a == b;
}

static bool fits(const struct cluster_placement *p, const size_t *chosen, size_t count,
                 size_t candidate)
{
    if (p->target[candidate].weight == 0) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (chosen[i] == candidate || same_domain(p, chosen[i], candidate)) {
            return false;
        }
    }
    return true;
}

/* Load relative to weight, in units that compare across targets. */
static uint64_t relative_load(const struct work *w, size_t i)
{
    return ((uint64_t)w->load[i] << 16) / w->p->target[i].weight;
}

/* The best candidate beside those chosen, or target_count. */
static size_t choose(const struct work *w, const size_t *chosen, size_t count)
{
    size_t n = w->p->target_count, best = n;
    uint64_t best_pairs = 0, best_load = 0;
    for (size_t i = 0; i < n; i++) {
        if (!fits(w->p, chosen, count, i)) {
            continue;
        }
        uint64_t pairs = 0, load = relative_load(w, i);
        for (size_t j = 0; j < count; j++) {
            pairs += ((uint64_t)w->pairs[chosen[j] * n + i] << 16) / w->p->target[i].weight;
        }
        if (best == n || pairs < best_pairs || (pairs == best_pairs && load < best_load)) {
            best = i;
            best_pairs = pairs;
            best_load = load;
        }
    }
    return best;
}

uint32_t cluster_chains_per_target(size_t copies, size_t targets)
{
    if (copies < 2 || targets < 2) {
        return CLUSTER_CHAINS_PER_TARGET;
    }
    uint64_t others = (targets - 1 + copies - 2) / (copies - 1);
    uint64_t most = CLUSTER_TABLE_MAX / 2 * copies / targets;
    return (uint32_t)base_max(base_min(others * CLUSTER_PAIRS, most), CLUSTER_CHAINS_PER_TARGET);
}

size_t cluster_rows_at_once(size_t copies)
{
    return base_min(CLUSTER_ROWS_MAX, CLUSTER_ROWS_MEMBERS / base_max(copies, (size_t)1));
}

/* Does target i have fewer chains than its weight earns it? */
static bool lacks(const struct work *w, size_t i, size_t eligible)
{
    uint64_t share = (uint64_t)cluster_chains_per_target(w->p->copies, eligible) * eligible *
                     w->p->target[i].weight / w->weight_sum;
    return w->p->target[i].weight > 0 && w->load[i] < base_max(share, 1);
}

/* How many chains may come now. Of what there is at most twice as many as the targets need: who
 * comes and goes gets a share of old chains instead. */
static size_t work_room(const struct work *w, size_t eligible)
{
    const struct cluster_placement *p = w->p;
    uint64_t need = (uint64_t)cluster_chains_per_target(p->copies, eligible) * eligible;
    uint64_t most = base_min(2 * need / p->copies + 1, CLUSTER_TABLE_MAX);
    return (size_t)base_min(most - base_min(p->row_count, most), cluster_rows_at_once(p->copies));
}

/* Makes one chain around the target that lacks most. False: nobody lacks any, or no chain is
 * possible. */
static bool next_chain(struct work *w, size_t eligible, struct cluster_row *ret, bool *ret_enough)
{
    const struct cluster_placement *p = w->p;
    size_t chosen[CLUSTER_MEMBERS_MAX], count = 1, first = p->target_count;
    for (size_t i = 0; i < p->target_count; i++) {
        if (lacks(w, i, eligible) &&
            (first == p->target_count || relative_load(w, i) < relative_load(w, first))) {
            first = i;
        }
    }
    if (first == p->target_count) {
        return false;
    }
    chosen[0] = first;
    while (count < p->copies) {
        size_t next = choose(w, chosen, count);
        if (next == p->target_count) {
            *ret_enough = false;
            return false;
        }
        chosen[count++] = next;
    }
    size_t head = 0;
    for (size_t i = 1; i < count; i++) {
        head = w->heads[chosen[i]] < w->heads[chosen[head]] ? i : head;
    }
    ret->count = count;
    for (size_t i = 0; i < count; i++) {
        size_t from = (head + i) % count;
        ret->member[i] = (struct cluster_member){.target = p->target[chosen[from]].id,
                                                 .state = PROTO_MEMBER_SERVING};
    }
    work_count(w, ret);
    return true;
}

int cluster_placement_grow(const struct cluster_placement *p, uint32_t first_chain,
                           struct cluster_row **ret, size_t *ret_count, bool *ret_enough)
{
    size_t eligible = 0, count = 0, capacity = 0;
    struct cluster_row *rows = NULL;
    struct work w;
    if (p->copies == 0 || p->copies > CLUSTER_MEMBERS_MAX) {
        return -ERR_bad_value;
    }
    for (size_t i = 0; i < p->target_count; i++) {
        eligible += p->target[i].weight > 0;
    }
    *ret_enough = eligible >= p->copies;
    *ret = NULL;
    *ret_count = 0;
    if (!*ret_enough) {
        return 0;
    }
    int rc = work_init(&w, p);
    struct cluster_row row = {.epoch = 1};
    size_t room = work_room(&w, eligible);
    while (rc == 0 && count < room && next_chain(&w, eligible, &row, ret_enough)) {
        rc = mem_grow(&rows, &capacity, count + 1, sizeof *rows);
        if (rc == 0) {
            row.chain = first_chain + (uint32_t)count;
            rows[count++] = row;
        }
    }
    if (w.load != NULL) {
        work_fini(&w);
    }
    if (rc < 0 || count == 0) {
        mem_free(rows);
        return rc;
    }
    *ret = rows;
    *ret_count = count;
    return 0;
}

/* ---- How even is it? ---- */

static uint32_t permille(double most, double mean)
{
    double x = mean <= 0 ? 0 : most / mean * 1000 + 0.5;
    return x >= (double)UINT32_MAX ? UINT32_MAX : (uint32_t)x;
}

/* What target `lost` shares with each other one, relative to the weight of that: most / mean. */
static uint32_t rebuild_permille(const struct work *w, size_t lost)
{
    const struct cluster_placement *p = w->p;
    double most = 0, sum = 0;
    uint64_t weight = 0;
    for (size_t i = 0; i < p->target_count; i++) {
        if (p->target[i].weight == 0 || i == lost || same_domain(p, i, lost)) {
            continue;
        }
        double pairs = (double)w->pairs[lost * p->target_count + i];
        double relative = pairs / (double)p->target[i].weight;
        most = relative > most ? relative : most;
        sum += pairs;
        weight += p->target[i].weight;
    }
    return weight == 0 ? 0 : permille(most, sum / (double)weight);
}

static void spread_of_targets(const struct work *w, const uint32_t *count, uint32_t *ret_permille)
{
    double most = 0, sum = 0;
    for (size_t i = 0; i < w->p->target_count; i++) {
        if (w->p->target[i].weight > 0) {
            double relative = (double)count[i] / (double)w->p->target[i].weight;
            most = relative > most ? relative : most;
            sum += (double)count[i];
        }
    }
    *ret_permille = w->weight_sum == 0 ? 0 : permille(most, sum / (double)w->weight_sum);
}

int cluster_placement_spread(const struct cluster_placement *p, struct cluster_spread *ret)
{
    struct work w;
    *ret = (struct cluster_spread){0};
    if (p->target_count == 0 || p->row_count == 0) {
        return 0;
    }
    int rc = work_init(&w, p);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < p->target_count; i++) {
        uint32_t rebuild = p->target[i].weight == 0 ? 0 : rebuild_permille(&w, i);
        if (rebuild > ret->rebuild_permille) {
            ret->rebuild_permille = rebuild;
            ret->worst = p->target[i].id;
        }
    }
    spread_of_targets(&w, w.load, &ret->load_permille);
    spread_of_targets(&w, w.heads, &ret->heads_permille);
    work_fini(&w);
    return 0;
}

uint32_t cluster_stripe_width(uint32_t wanted, size_t table_size)
{
    uint64_t width = wanted == 0 ? CLUSTER_STRIPE_MAX : wanted;
    return (uint32_t)base_min(width, table_size);
}

size_t cluster_chunk_place(const struct proto_layout *layout, uint32_t index, size_t table_size)
{
    CHECK(table_size > 0);
    uint32_t width = layout->stripe_width == 0 ? 1 : layout->stripe_width;
    return (size_t)(((uint64_t)layout->seed + index % width) % table_size);
}
