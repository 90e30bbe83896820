/* A socket between two processes of ours: whole messages of text, with file descriptors. Neither
 * side ever waits for the other to read. */
#pragma once

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

#define CONTROL_TEXT_MAX 4096
#define CONTROL_FDS_MAX 64

/* As it was received; whoever takes an fd writes -1 in its place. */
struct control_message {
    char text[CONTROL_TEXT_MAX + 1]; /* terminated */
    int fds[CONTROL_FDS_MAX];        /* closed on exec */
    unsigned fd_count;
};

/* Two ends, non-blocking, closed on exec. -errno. */
int control_pair(int ends[2]);

/* -errno; -EAGAIN: the other side does not read, nothing was sent. */
int control_send(int fd, const char *text, const int *fds, unsigned fd_count);

/* The same for any @bytes, which a packet can hold: some 200 KB. */
int control_send_bytes(int fd, struct slice bytes, const int *fds, unsigned fd_count);

/* 1: @message is there, and its fds are the caller's; 0: none now; -errno: -EPIPE at the end. */
int control_receive(int fd, struct control_message *message);

/* The same for packets that may be longer: *@len bytes at @to, at most @max; what is beyond is
 * lost. Of @message only the fds are used. */
int control_receive_bytes(int fd, void *to, size_t max, size_t *len,
                          struct control_message *message);

/* Closes the fds that nobody took. */
void control_message_deinit(struct control_message *message);

/* Is the first word of @text @verb? *@rest is then what stands behind it and a blank, or "". */
bool control_is(const char *text, const char *verb, const char **rest);
