/*
 * loop/sim_spawn.c -- loop_spawn() in the simulated world; see sim.h.
 *
 * The child exists at once, its program starts a random moment later, and the parent hears of its
 * end a random moment after it. A child that is not detached gets SIGTERM when its parent dies.
 */
#include "loop/sim_priv.h"

#include <signal.h>
#include <string.h>

#define SIM_SPAWN_MAX_NS 1000000u
#define SIM_SPAWN_ITEMS 256u
#define SIM_START_FAILED 1 /* exit code of a program whose start said an error */

void loop_sim_program(struct loop_sim *s, struct loop_sim_program *p)
{
    list_push_back(&s->programs, &p->node);
}

static struct loop_sim_program *find_program(struct loop_sim *s, const char *name)
{
    LIST_FOR_EACH(node, &s->programs)
    {
        struct loop_sim_program *p = LIST_ENTRY(node, struct loop_sim_program, node);
        if (name != NULL && strcmp(p->name, name) == 0) {
            return p;
        }
    }
    return NULL;
}

/* --- the copy of the options, until the program has started --- */

void loop_sim_spawn_fini(struct sim_process *p)
{
    for (size_t i = 0; p->argv != NULL && i < p->argv_count; i++) {
        mem_free(p->argv[i]);
    }
    mem_free(p->argv);
    mem_free(p->fds);
    mem_free(p->log_path);
    p->argv = NULL;
    p->fds = NULL;
    p->log_path = NULL;
}

static int copy_arguments(struct sim_process *p, const char *const *argv)
{
    size_t count = 1; /* argv[0] may be NULL */
    while (argv[count] != NULL) {
        count++;
    }
    p->argv = mem_calloc(count + 1, sizeof p->argv[0]);
    if (p->argv == NULL) {
        return -ENOMEM;
    }
    p->argv_count = count;
    for (size_t i = 0; i < count; i++) {
        const char *text = argv[i] != NULL ? argv[i] : "opendfs";
        p->argv[i] = mem_strdup(text);
        if (p->argv[i] == NULL) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int copy_options(struct sim_process *p, const struct loop_spawn_options *opt)
{
    int rc = copy_arguments(p, opt->argv);
    if (rc == 0 && opt->fd_count > 0) {
        p->fds = mem_dup(opt->fds, opt->fd_count * sizeof p->fds[0]);
        rc = p->fds == NULL ? -ENOMEM : 0;
    }
    if (rc == 0 && opt->log_path != NULL) {
        p->log_path = mem_strdup(opt->log_path);
        rc = p->log_path == NULL ? -ENOMEM : 0;
    }
    p->fd_count = opt->fd_count;
    p->detached = opt->detach;
    return rc;
}

/* --- life of a child --- */

static void start_program(struct loop_sim_event *ev)
{
    struct sim_process *p = container_of(ev, struct sim_process, start);
    const struct loop_spawn_options opt = {.argv = (const char *const *)p->argv,
                                           .fds = p->fds,
                                           .fd_count = p->fd_count,
                                           .log_path = p->log_path,
                                           .detach = p->detached};
    int rc = p->program->start(p->program, &p->base, &opt);
    if (rc != 0) {
        loop_sim_doom(p, rc < 0 ? SIM_START_FAILED : rc & 0xff);
    }
}

static void tell_parent(struct loop_sim_event *ev)
{
    struct sim_process *p = container_of(ev, struct sim_process, notice);
    struct loop_child *c = p->child;
    if (c != NULL) {
        p->child = NULL;
        c->pid = 0;
        c->backend = NULL;
        c->exited(c, p->status);
    }
}

static uint64_t a_moment_later(struct loop_sim *s)
{
    return s->now_ns + rand_range(&s->rand, 1000, SIM_SPAWN_MAX_NS);
}

int loop_sim_spawn(struct loop *l, const struct loop_spawn_options *opt, struct loop_child *c,
                   struct err *e)
{
    struct sim_process *parent = loop_sim_process_of(l);
    struct loop_sim *s = parent->sim;
    if (opt->fd_count > SIM_SPAWN_ITEMS) {
        return err_set(e, -EINVAL, "more than %u descriptors for a child", SIM_SPAWN_ITEMS);
    }
    const char *name = opt->argv[1];
    struct loop_sim_program *program = find_program(s, name);
    if (program == NULL) {
        return err_set(e, -ENOENT, "run '%s'", name != NULL ? name : "");
    }
    struct sim_process *p = loop_sim_process_new(s, name, parent->machine->id);
    if (p == NULL) {
        return -ENOMEM;
    }
    struct mem_domain *domain = mem_domain_enter(NULL);
    int rc = copy_options(p, opt);
    (void)mem_domain_enter(domain);
    if (rc < 0) {
        loop_sim_doom(p, -SIGKILL);
        return rc;
    }
    p->program = program;
    p->parent = parent;
    parent->has_spawned = true;
    p->child = opt->detach ? NULL : c;
    p->start = (struct loop_sim_event){.run = start_program, .on = &p->base};
    p->notice = (struct loop_sim_event){.run = tell_parent, .on = &parent->base};
    loop_sim_at(s, &p->start, a_moment_later(s));
    c->pid = (int64_t)p->id;
    c->backend = p;
    return 0;
}

int loop_sim_child_signal(struct loop *l, struct loop_child *c, int signo)
{
    (void)l;
    struct sim_process *p = c->backend;
    if (p->state != SIM_ALIVE) {
        return -ESRCH;
    }
    if (signo != 0) {
        loop_sim_signal(&p->base, signo);
    }
    return 0;
}

void loop_sim_child_forget(struct loop *l, struct loop_child *c)
{
    (void)l;
    struct sim_process *p = c->backend;
    p->child = NULL;
}

/* A process that ended while nobody listened tells it now. */
int loop_sim_child_adopt(struct loop *l, int64_t pid, struct loop_child *c)
{
    struct sim_process *self = loop_sim_process_of(l);
    LIST_FOR_EACH(node, &self->sim->processes)
    {
        struct sim_process *p = LIST_ENTRY(node, struct sim_process, node);
        if (pid > 0 && p->id == (uint64_t)pid && p->parent == self && p->child == NULL) {
            p->child = c;
            c->pid = pid;
            c->backend = p;
            if (p->state == SIM_DEAD) {
                loop_sim_cancel(self->sim, &p->notice);
                loop_sim_at(self->sim, &p->notice, a_moment_later(self->sim));
            }
            return 0;
        }
    }
    return -ESRCH;
}

int loop_sim_process_signal(struct loop *l, int64_t pid, int signo)
{
    const struct sim_process *self = loop_sim_process_of(l);
    LIST_FOR_EACH(node, &self->sim->processes)
    {
        struct sim_process *p = LIST_ENTRY(node, struct sim_process, node);
        if (p->id == (uint64_t)pid && p->machine == self->machine && p->state == SIM_ALIVE) {
            if (signo != 0) {
                loop_sim_signal(&p->base, signo);
            }
            return 0;
        }
    }
    return -ESRCH;
}

/* Most had no children: tests end tens of thousands of processes, and all of them are listed. */
static void leave_children(struct sim_process *p)
{
    struct loop_sim *s = p->sim;
    LIST_FOR_EACH(node, &s->processes)
    {
        struct sim_process *q = LIST_ENTRY(node, struct sim_process, node);
        if (q->parent == p) {
            q->parent = NULL;
            q->child = NULL; /* it lay in the parent's memory */
            loop_sim_cancel(s, &q->notice);
            if (!q->detached) {
                loop_sim_signal(&q->base, SIGTERM);
            }
        }
    }
}

void loop_sim_spawn_died(struct sim_process *p)
{
    struct loop_sim *s = p->sim;
    if (p->has_spawned) {
        leave_children(p);
    }
    loop_sim_spawn_fini(p);
    if (p->child != NULL) {
        loop_sim_at(s, &p->notice, a_moment_later(s));
    }
}
