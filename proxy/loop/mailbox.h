/* Mailboxes: the only way from one thread to a loop. Letters are intrusive, so sending allocates
 * nothing; ownership of what a letter is part of travels with it. Letters from one sender arrive in
 * order. */
#pragma once

#include <stdatomic.h>
#include <uv.h>

struct loop;
struct mail;

typedef void mail_fn(struct loop *loop, struct mail *mail);

struct mail {
    struct mail *next; /* while under way */
    mail_fn *deliver;  /* called on the loop's thread; may free the letter */
};

struct mailbox {
    _Atomic(struct mail *) first; /* a stack: newest first */
    uv_async_t async;
};
