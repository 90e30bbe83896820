/* Starting a program of ours as a child that ends with us. Home: supervisor. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct process_options {
    const char *path; /* of the program */
    char *const *argv;
    /* What becomes its standard input, output and error and its CONTROL_FD; -1: ours, and none. */
    int in, out, err, control;
    bool may_outlive_us; /* it is not killed when this process ends */
};

/* Every other fd is closed by exec, signals are unblocked, and the kernel kills the child when this
 * process ends, unless it may outlive us. Returns the pid; -errno when there can be none. A program
 * that cannot be executed says so on its standard error and ends with status 126. */
pid_t process_start(const struct process_options *options);
