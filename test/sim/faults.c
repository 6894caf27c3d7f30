/*
 * sim/faults.c -- see faults.h.
 *
 * Unsynced data may be lost for good only when a machine loses power while another member may lack
 * the newest data: it is down, not complete yet, or cut off. That is counted, because the model
 * allows it then and only then. (A process that is killed loses nothing: what it wrote is in the
 * machine's page cache.)
 */
#include "faults.h"

#include "base/rand.h"

static void start_again(struct loop_sim_event *ev)
{
    struct faults_return *r = container_of(ev, struct faults_return, event);
    if (!world_is_running(r->faults->w, r->node)) {
        world_start(r->faults->w, r->node);
    }
}

static void end_node(struct faults *f, unsigned node, bool power)
{
    struct world *w = f->w;
    if (!world_is_running(w, node)) {
        return;
    }
    if (power) {
        f->power_cuts++;
        if (node != WORLD_META && (f->cut || !world_is_healthy(w))) {
            w->possible_losses++; /* it may have been the only one that had the newest data */
        }
        world_power_cut(w, node);
    } else {
        f->kills++;
        world_kill(w, node);
    }
    /* Mostly soon; sometimes after its lease has run out. */
    uint64_t longest = rand_chance(w->rand, 1, 3) ? 4 * WORLD_LEASE_MS : WORLD_LEASE_MS / 2;
    uint64_t at = world_now_ns(w) + world_between(w, 10, longest) * WORLD_MS;
    loop_sim_at(w->sim, &f->back[node].event, at);
}

static void cut_network(struct faults *f)
{
    struct world *w = f->w;
    unsigned a = (unsigned)world_between(w, 1, WORLD_HOSTS);
    unsigned b = (unsigned)world_between(w, 1, WORLD_HOSTS);
    if (a == b) {
        return;
    }
    if (rand_chance(w->rand, 1, 2)) {
        f->resets++;
        net_sim_reset(w->net, a, b);
        return;
    }
    f->partitions++;
    f->cut = true;
    net_sim_cut(w->net, a, b, true);
    if (rand_chance(w->rand, 2, 3)) { /* else one direction only */
        net_sim_cut(w->net, b, a, true);
    }
}

static void happen(struct loop_sim_event *ev)
{
    struct faults *f = container_of(ev, struct faults, next);
    struct world *w = f->w;
    unsigned target = WORLD_TARGET((unsigned)rand_below(w->rand, WORLD_TARGETS));
    switch (rand_below(w->rand, 8)) {
    case 0:
        end_node(f, WORLD_META, false);
        break;
    case 1:
        end_node(f, WORLD_META, true);
        break;
    case 2:
    case 3:
        end_node(f, target, false);
        break;
    case 4:
        end_node(f, target, true);
        break;
    case 5:
        cut_network(f);
        break;
    case 6:
        f->cut = false;
        net_sim_heal(w->net);
        break;
    default:
        net_sim_faults(w->net, (uint32_t)rand_below(w->rand, 500),
                       (uint32_t)rand_below(w->rand, 2000));
    }
    loop_sim_at(w->sim, &f->next, world_now_ns(w) + world_between(w, 50, 2500) * WORLD_MS);
}

void faults_init(struct faults *f, struct world *w)
{
    *f = (struct faults){.w = w, .next.run = happen};
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        f->back[i] = (struct faults_return){.faults = f, .node = i, .event.run = start_again};
    }
}

void faults_begin(struct faults *f)
{
    loop_sim_at(f->w->sim, &f->next, world_now_ns(f->w) + 500 * WORLD_MS);
}

void faults_end(struct faults *f)
{
    f->stopped = true;
    loop_sim_cancel(f->w->sim, &f->next);
    net_sim_heal(f->w->net);
    net_sim_faults(f->w->net, 0, 0);
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        loop_sim_cancel(f->w->sim, &f->back[i].event);
        if (!world_is_running(f->w, i)) {
            world_start(f->w, i);
        }
    }
}
