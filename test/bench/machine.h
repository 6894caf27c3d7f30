/*
 * bench/machine.h -- what the machine does by itself, to judge figures by, and what the processes
 * of a local cluster use of it. Everything blocks; 0 or a negative errno.
 */
#pragma once

#include "bench.h"

#define MACHINE_FILE_BYTES (UINT64_C(2) << 30)

double machine_now(void); /* seconds of a steady clock */
/* CPU seconds so far of all threads of a process, and of the children that it has waited for; 0:
 * there is none. */
double machine_process_cpu(const char *pid);
/* CPU seconds so far of the processes of the cluster in `directory` whose names begin so: "node."
 * (masters), "target." (workers), "meta."; "": all. */
double machine_cluster_cpu(const char *directory, const char *names);
/* Writes MACHINE_FILE_BYTES to each of two files in `directory`, by turns, and syncs both at the
 * end; removes them. The least that two copies on one disk can cost. */
int machine_files(const char *directory, double *ret_seconds);
/* Sends a cached file of MACHINE_FILE_BYTES by sendfile through a loopback TCP connection to a
 * thread that throws it away. The least that a read through the network can cost; `ret_cpu` is the
 * sender's part of it, in seconds. */
int machine_socket(const char *directory, double *ret_seconds, double *ret_cpu);
/* Messages of MACHINE_ECHO_BYTES to a thread that sends them back, for about `seconds`: one
 * loopback TCP connection, both ends sleep in epoll_wait, `in_flight` go out in one write and the
 * next ones when all are back. The most that a server that sleeps between requests can answer;
 * waking the other core is most of it on a virtual machine with nothing else to do. */
#define MACHINE_ECHO_BYTES 64u
#define MACHINE_ECHO_IN_FLIGHT_MAX 64u
int machine_echo(unsigned in_flight, double seconds, double *ret_per_second);
