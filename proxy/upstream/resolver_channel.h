/* One c-ares channel: questions for addresses, their answers, and the one wait for both. A part of
 * the resolver, which decides when to ask and what an answer means.
 *
 * The sockets are made here and not by c-ares: close-on-exec from birth (children are forked
 * meanwhile), and a look at each answer's RCODE, since c-ares 1.18 reports a server that fails, one
 * that refuses and one that is not there alike. Home: whoever runs the resolver, one at a time. */
#pragma once

#include "upstream/resolver.h"

#include <stdbool.h>

struct resolver_channel;

struct resolver_answer {
    int error;       /* 0 or -errno, as resolver_watch(); -ECANCELED by cancel and close */
    const char *why; /* static text; NULL without an error */
    struct resolver_addresses addresses;
    size_t left_out; /* addresses beyond RESOLVER_ADDRESSES_MAX */
    int64_t ttl_ns;  /* lowest TTL on the way, CNAMEs included; -1: none (/etc/hosts) */
};

/* Called exactly once per question, also within resolver_channel_ask(). @answer is borrowed for the
 * call. Must not ask. */
typedef void resolver_answer_fn(void *ctx, const struct resolver_answer *answer);

struct resolver_question {
    const char *host; /* borrowed for the call */
    uint16_t port;
    int family; /* AF_UNSPEC: both at once; else this one alone */
    resolver_answer_fn *answered;
    void *ctx; /* borrowed until answered */
};

/* @servers as resolver_open(). */
int resolver_channel_open(struct resolver_channel **out, const char *servers);
void resolver_channel_ask(struct resolver_channel *channel,
                          const struct resolver_question *question);
/* Handles one round of what is ready, waiting for it until @until_ns (clock_now_ns) at most. True
 * when @end_fd (-1: none) is readable. */
bool resolver_channel_wait(struct resolver_channel *channel, int end_fd, int64_t until_ns);
/* Answers every question now, with -ECANCELED or with the half that has come. */
void resolver_channel_cancel(struct resolver_channel *channel);
/* Cancels first. Accepts NULL. */
void resolver_channel_close(struct resolver_channel *channel);

/* Puts @address into its place. False when it was left out, or pushed the highest one out, because
 * there are RESOLVER_ADDRESSES_MAX already. */
bool resolver_addresses_add(struct resolver_addresses *addresses,
                            const struct sockaddr_storage *address);
