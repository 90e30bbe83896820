/* What a session keeps beside what is under way: messages that wait for a stream, what it has
 * subscribed to, and cancellations that came before what they cancel. */
#include "mcp/hub_parts.h"

#include "base/alloc.h"

#include <stdlib.h>

static struct hub_subscription *find(const struct hub_session *session, struct slice uri);
static void forget(struct hub_session *session, struct list *link);

void queue_add(struct hub_session *session, uint64_t ask, struct slice text) {
    struct hub_waiting *waiting = xmalloc(sizeof *waiting + text.len);

    waiting->ask = ask;
    waiting->len = text.len;
    slice_write(waiting->text, text);
    list_push_back(&session->queue, &waiting->link);
    session->queue_count++;
    session->queue_bytes += text.len;
}

struct hub_waiting *queue_pop(struct hub_session *session) {
    struct list *link = list_pop(&session->queue);
    struct hub_waiting *waiting;

    if (!link)
        return NULL;
    waiting = CONTAINER_OF(link, struct hub_waiting, link);
    session->queue_count--;
    session->queue_bytes -= waiting->len;
    return waiting;
}

void queue_free(struct hub_waiting *waiting) {
    free(waiting);
}

bool subscriptions_have(const struct hub_session *session, struct slice uri) {
    return find(session, uri) != NULL;
}

bool subscriptions_add(struct hub_session *session, struct slice uri) {
    struct hub_subscription *subscription;

    if (find(session, uri))
        return true;
    if (session->subscription_count == HUB_SUBSCRIPTIONS_MAX || uri.len > HUB_URI_MAX)
        return false;
    subscription = xmalloc(sizeof *subscription + uri.len);
    subscription->len = uri.len;
    slice_write(subscription->uri, uri);
    list_push_back(&session->subscriptions, &subscription->link);
    session->subscription_count++;
    return true;
}

void subscriptions_remove(struct hub_session *session, struct slice uri) {
    struct hub_subscription *subscription = find(session, uri);

    if (subscription)
        forget(session, &subscription->link);
}

void subscriptions_clear(struct hub_session *session) {
    struct list *at, *next;

    for (at = session->subscriptions.next; at != &session->subscriptions; at = next) {
        next = at->next;
        forget(session, at);
    }
}

void early_note(struct hub_session *session, struct slice id, int64_t now_ns) {
    struct hub_early *early = &session->early[session->early_next++ % HUB_EARLY_MAX];

    if (!id.base || id.len > MESSAGE_ID_MAX)
        return;
    free((char *)early->id.base);
    early->id = slice_of(xstrndup(id.base, id.len), id.len);
    early->at_ns = now_ns;
}

bool early_take(struct hub_session *session, struct slice id, int64_t now_ns) {
    for (size_t i = 0; i < HUB_EARLY_MAX; i++) {
        struct hub_early *early = &session->early[i];

        if (!early->id.base || !slice_equal(early->id, id) || now_ns - early->at_ns > HUB_EARLY_NS)
            continue;
        free((char *)early->id.base);
        early->id = SLICE_NONE;
        return true;
    }
    return false;
}

void early_clear(struct hub_session *session) {
    for (size_t i = 0; i < HUB_EARLY_MAX; i++)
        free((char *)session->early[i].id.base);
}

static struct hub_subscription *find(const struct hub_session *session, struct slice uri) {
    for (struct list *at = session->subscriptions.next; at != &session->subscriptions;
         at = at->next) {
        struct hub_subscription *subscription = CONTAINER_OF(at, struct hub_subscription, link);

        if (slice_equal(slice_of(subscription->uri, subscription->len), uri))
            return subscription;
    }
    return NULL;
}

static void forget(struct hub_session *session, struct list *link) {
    list_remove(link);
    session->subscription_count--;
    free(CONTAINER_OF(link, struct hub_subscription, link));
}
