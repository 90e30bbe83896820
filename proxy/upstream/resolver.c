/* Names to addresses: when to ask, and what an answer means.
 *
 * Each name is either idle until its time comes, or under way with one question. The thread asks
 * for the names that are due, as many as RESOLVER_LOOKUPS_MAX lets it, and waits for an answer, for
 * the next name's time, or for the end. What an answer does to a name:
 *
 *             addresses           half of the families    failure
 *   whole     publish, wait TTL   ask for the lost half   keep all, wait backoff
 *   half      keep it; if again,  --                      none there: publish without it;
 *             publish without it                          else: keep it
 *
 * The second line is the question for the lost half alone. c-ares calls an answer whole when one of
 * A and AAAA came and the other failed; without it, a server that fails for A in one bad moment
 * would leave a host that speaks no IPv6 with IPv6 addresses only. That the half is there after all
 * means either that the bad moment has passed, or that the names differ (search domains, a name
 * that moved into /etc/hosts), so the whole answer is believed the second time. */
#include "upstream/resolver.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "upstream/resolver_channel.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DOUBTS_MAX 2

/* A watched name. Home: resolver. */
struct watched {
    struct resolver *resolver; /* borrowed: owns us */
    struct resolver_name name;
    int64_t interval_ns;
    int64_t due_ns;    /* when to ask next, unless under way */
    unsigned failures; /* in a row */
    unsigned doubts;   /* whole answers in a row whose lost half was there after all */
    int lost_family;   /* the question is for this half alone; AF_UNSPEC: for the whole */
    int64_t pending_ttl_ns;
    bool is_under_way;
    bool is_crowded; /* more than RESOLVER_ADDRESSES_MAX, and logged */
    struct resolver_addresses current;
    struct resolver_addresses pending; /* the whole answer, while its lost half is asked for */
};

/* Home: resolver, between start and close; else the caller's thread. */
struct resolver {
    struct resolver_channel *channel;
    struct watched **names;
    size_t count;
    size_t turn;      /* index of the name that is looked at first */
    size_t under_way; /* at most RESOLVER_LOOKUPS_MAX */
    uint64_t seed;    /* of the jitter; never 0 */
    int end_fd;       /* eventfd; readable: end the thread */
    pthread_t thread;
    bool is_running;
    bool is_closing; /* answers count no more */
};

/* What resolver_watch() waits for. */
struct first_answer {
    struct resolver_answer answer;
    bool is_here;
};

static void take_first(void *ctx, const struct resolver_answer *answer);
static void *run(void *arg);
static void ask_due(struct resolver *resolver);
static int64_t next_due_ns(const struct resolver *resolver);
static void answered(void *ctx, const struct resolver_answer *answer);
static void take_whole(struct watched *watched, const struct resolver_answer *answer);
static void take_half(struct watched *watched, const struct resolver_answer *answer);
static void fail(struct watched *watched, const char *why);
static void recover(struct watched *watched, const struct resolver_answer *answer);
static void publish(struct watched *watched, const struct resolver_addresses *addresses);
static int64_t hold_ns(const struct watched *watched, int64_t ttl_ns);
static int64_t backoff_ns(struct watched *watched);

int resolver_open(struct resolver **out, const char *servers) {
    struct resolver *resolver = xcalloc(1, sizeof *resolver);
    int err;

    resolver->seed = (uint64_t)clock_now_ns() | 1;
    resolver->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (resolver->end_fd < 0) {
        err = -errno;
        goto fail;
    }
    err = resolver_channel_open(&resolver->channel, servers);
    if (err)
        goto fail;

    *out = resolver;
    return 0;
fail:
    resolver_close(resolver);
    return err;
}

int resolver_watch(struct resolver *resolver, const struct resolver_name *name, int64_t timeout_ns,
                   struct resolver_addresses *first, const char **why) {
    struct first_answer here = {0};
    struct resolver_question question = {
        .host = name->host,
        .port = name->port,
        .family = AF_UNSPEC,
        .answered = take_first,
        .ctx = &here,
    };
    int64_t until_ns = clock_now_ns() + timeout_ns;
    struct watched *watched;

    assert(!resolver->is_running);
    if (resolver->count == RESOLVER_NAMES_MAX) {
        *why = "too many names";
        return -ENOSPC;
    }

    resolver_channel_ask(resolver->channel, &question);
    while (!here.is_here && clock_now_ns() < until_ns)
        resolver_channel_wait(resolver->channel, -1, until_ns);
    if (!here.is_here)
        resolver_channel_cancel(resolver->channel);
    assert(here.is_here);
    if (here.answer.error == -ECANCELED)
        here.answer = (struct resolver_answer){.error = -ETIMEDOUT, .why = "timed out"};
    if (here.answer.error && !name->may_come_later) {
        *why = here.answer.why;
        return here.answer.error;
    }

    watched = xcalloc(1, sizeof *watched);
    watched->resolver = resolver;
    watched->name = *name;
    watched->interval_ns = name->interval_ns;
    if (watched->interval_ns < RESOLVER_INTERVAL_MIN_NS)
        watched->interval_ns = RESOLVER_INTERVAL_MIN_NS;
    if (watched->interval_ns > RESOLVER_INTERVAL_MAX_NS)
        watched->interval_ns = RESOLVER_INTERVAL_MAX_NS;
    if (here.answer.error) {
        fail(watched, here.answer.why);
    } else {
        watched->current = here.answer.addresses;
        recover(watched, &here.answer);
    }
    resolver->names = xrealloc(resolver->names, (resolver->count + 1) * sizeof(struct watched *));
    resolver->names[resolver->count++] = watched;
    *first = watched->current;
    return 0;
}

int resolver_start(struct resolver *resolver) {
    int err;

    assert(!resolver->is_running);
    if (resolver->count == 0)
        return 0;
    err = thread_start(&resolver->thread, run, resolver);
    if (err)
        return err;
    resolver->is_running = true;
    return 0;
}

void resolver_close(struct resolver *resolver) {
    if (resolver == NULL)
        return;
    if (resolver->is_running) {
        eventfd_write(resolver->end_fd, 1);
        pthread_join(resolver->thread, NULL);
    }
    resolver->is_closing = true;
    resolver_channel_close(resolver->channel);
    for (size_t i = 0; i < resolver->count; i++)
        free(resolver->names[i]);
    free(resolver->names);
    if (resolver->end_fd >= 0)
        close(resolver->end_fd);
    free(resolver);
}

static void take_first(void *ctx, const struct resolver_answer *answer) {
    struct first_answer *here = ctx;

    here->answer = *answer;
    here->is_here = true;
}

static void *run(void *arg) {
    struct resolver *resolver = arg;

    pthread_setname_np(pthread_self(), "weir-resolver");
    do
        ask_due(resolver);
    while (!resolver_channel_wait(resolver->channel, resolver->end_fd, next_due_ns(resolver)));
    return NULL;
}

/* Looks at every name once, beginning where the last look had to stop, so that no name is always
 * the one that finds no room. */
static void ask_due(struct resolver *resolver) {
    int64_t now_ns = clock_now_ns();

    for (size_t i = 0; i < resolver->count; i++) {
        struct watched *watched = resolver->names[resolver->turn];

        if (!watched->is_under_way && watched->due_ns <= now_ns) {
            struct resolver_question question = {
                .host = watched->name.host,
                .port = watched->name.port,
                .family = watched->lost_family,
                .answered = answered,
                .ctx = watched,
            };

            if (resolver->under_way == RESOLVER_LOOKUPS_MAX)
                return;
            watched->is_under_way = true;
            resolver->under_way++;
            resolver_channel_ask(resolver->channel, &question);
        }
        resolver->turn = (resolver->turn + 1) % resolver->count;
    }
}

static int64_t next_due_ns(const struct resolver *resolver) {
    int64_t next_ns = INT64_MAX;

    if (resolver->under_way == RESOLVER_LOOKUPS_MAX)
        return next_ns; /* an answer makes room */
    for (size_t i = 0; i < resolver->count; i++)
        if (!resolver->names[i]->is_under_way && resolver->names[i]->due_ns < next_ns)
            next_ns = resolver->names[i]->due_ns;
    return next_ns;
}

static void answered(void *ctx, const struct resolver_answer *answer) {
    struct watched *watched = ctx;

    watched->is_under_way = false;
    watched->resolver->under_way--;
    if (watched->resolver->is_closing)
        return;
    if (watched->lost_family != AF_UNSPEC)
        take_half(watched, answer);
    else if (answer->error)
        fail(watched, answer->why);
    else
        take_whole(watched, answer);
}

static bool has_family(const struct resolver_addresses *addresses, int family) {
    for (size_t i = 0; i < addresses->count; i++)
        if (addresses->list[i].ss_family == family)
            return true;
    return false;
}

/* AF_UNSPEC when @now has every family that @before has. */
static int find_lost_family(const struct resolver_addresses *before,
                            const struct resolver_addresses *now) {
    static const int families[] = {AF_INET, AF_INET6};

    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (has_family(before, families[i]) && !has_family(now, families[i]))
            return families[i];
    return AF_UNSPEC;
}

static void take_whole(struct watched *watched, const struct resolver_answer *answer) {
    recover(watched, answer);
    watched->lost_family = find_lost_family(&watched->current, &answer->addresses);
    if (watched->lost_family != AF_UNSPEC) {
        watched->pending = answer->addresses;
        watched->pending_ttl_ns = answer->ttl_ns;
        watched->due_ns = clock_now_ns();
        return;
    }
    watched->doubts = 0;
    publish(watched, &answer->addresses);
}

static void take_half(struct watched *watched, const struct resolver_answer *answer) {
    bool is_gone = answer->error == -ENOENT || answer->error == -ENODATA;
    int64_t ttl_ns = watched->pending_ttl_ns;

    if (!answer->error) {
        is_gone = ++watched->doubts == DOUBTS_MAX;
        ttl_ns = 0; /* soon again: one of the two answers was wrong */
    }
    if (is_gone) {
        watched->doubts = 0;
    } else {
        for (size_t i = 0; i < watched->current.count; i++)
            if (watched->current.list[i].ss_family == watched->lost_family)
                resolver_addresses_add(&watched->pending, &watched->current.list[i]);
    }
    watched->due_ns = clock_now_ns() + hold_ns(watched, ttl_ns);
    watched->lost_family = AF_UNSPEC;
    publish(watched, &watched->pending);
}

static void fail(struct watched *watched, const char *why) {
    if (watched->failures == 0 && watched->current.count == 0)
        log_warn("cannot resolve '%s', which has no address until that works: %s",
                 watched->name.host, why);
    else if (watched->failures == 0)
        log_warn("cannot resolve '%s', keeping its %zu addresses: %s", watched->name.host,
                 watched->current.count, why);
    watched->due_ns = clock_now_ns() + backoff_ns(watched);
    watched->failures++;
}

/* @answer has addresses. */
static void recover(struct watched *watched, const struct resolver_answer *answer) {
    if (watched->failures > 0)
        log_info("resolved '%s' again after %u failures", watched->name.host, watched->failures);
    if (answer->left_out > 0 && !watched->is_crowded)
        log_warn("cannot use all addresses of '%s', leaving out %zu: more than %d",
                 watched->name.host, answer->left_out, RESOLVER_ADDRESSES_MAX);
    watched->is_crowded = answer->left_out > 0;
    watched->failures = 0;
    watched->due_ns = clock_now_ns() + hold_ns(watched, answer->ttl_ns);
}

static void publish(struct watched *watched, const struct resolver_addresses *addresses) {
    if (memcmp(&watched->current, addresses, sizeof *addresses) == 0)
        return;
    watched->current = *addresses;
    watched->name.changed(watched->name.ctx, &watched->current);
}

/* How long an answer is good for. */
static int64_t hold_ns(const struct watched *watched, int64_t ttl_ns) {
    if (ttl_ns < 0 || ttl_ns > watched->interval_ns)
        return watched->interval_ns;
    if (ttl_ns < RESOLVER_TTL_MIN_NS)
        ttl_ns = RESOLVER_TTL_MIN_NS;
    return ttl_ns < watched->interval_ns ? ttl_ns : watched->interval_ns;
}

static int64_t backoff_ns(struct watched *watched) {
    int64_t longest_ns = watched->interval_ns < RESOLVER_BACKOFF_MAX_NS ? watched->interval_ns
                                                                        : RESOLVER_BACKOFF_MAX_NS;
    unsigned doublings = watched->failures < 10 ? watched->failures : 10;
    int64_t delay_ns = RESOLVER_BACKOFF_MIN_NS << doublings;
    uint64_t *seed = &watched->resolver->seed;

    if (delay_ns > longest_ns)
        delay_ns = longest_ns;
    *seed ^= *seed << 13; /* xorshift64: names that failed together come back apart */
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return delay_ns / 2 + (int64_t)(*seed % (uint64_t)(delay_ns / 2 + 1));
}
