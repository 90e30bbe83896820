/* The insides of the hub, shared by its parts. */
#pragma once

#include "mcp/hub.h"

/* A request of a client that the server has not answered. */
struct hub_call {
    struct list in_session, in_bucket;
    struct hub_session *session;   /* borrowed */
    struct outlet *outlet;         /* borrowed */
    uint64_t id;                   /* towards the server; its progress token too */
    struct slice client_id, token; /* as the client has them; owned; no base: no token */
};

/* A request of the server that a client has not answered. */
struct hub_ask {
    struct list in_session, in_bucket;
    struct hub_session *session;   /* borrowed */
    uint64_t id;                   /* towards the client; its progress token too */
    struct slice server_id, token; /* as the server has them; owned; no base: no token */
};

/* A message that waits for a stream. */
struct hub_waiting {
    struct list link;
    uint64_t ask; /* 0: it is none */
    size_t len;
    char text[];
};

struct hub_subscription {
    struct list link;
    size_t len;
    char uri[];
};

/* sessions.c */
struct hub_session *sessions_add(struct hub *hub, int64_t now_ns);
void sessions_remove(struct hub *hub, struct hub_session *session); /* with nothing left in it */
struct hub_call *calls_add(struct hub *hub, struct hub_session *session,
                           const struct message *message, struct outlet *outlet);
struct hub_call *calls_find(struct hub *hub, uint64_t id);
/* By the client's own id; NULL: none of the session's. */
struct hub_call *calls_find_of(struct hub_session *session, struct slice client_id);
void calls_remove(struct hub *hub, struct hub_call *call);
struct hub_ask *asks_add(struct hub *hub, struct hub_session *session,
                         const struct message *message);
/* @id: JSON; NULL: it is none of @session (NULL: of any). */
struct hub_ask *asks_find(struct hub *hub, const struct hub_session *session, struct slice id);
struct hub_ask *asks_find_of_server(struct hub *hub, struct slice server_id);
void asks_remove(struct hub *hub, struct hub_ask *ask);
/* The oldest ones give way, and the server is told of its requests among them. */
void queue_push(struct hub *hub, struct hub_session *session, uint64_t ask, struct slice text);
/* A number as JSON has it; false: it is something else. */
bool hub_number(struct slice json, uint64_t *number);

/* waiting.c */
void queue_add(struct hub_session *session, uint64_t ask, struct slice text);
/* The oldest, which is the caller's then; NULL: none. */
struct hub_waiting *queue_pop(struct hub_session *session);
void queue_free(struct hub_waiting *waiting);
/* False: it is not there. */
bool subscriptions_have(const struct hub_session *session, struct slice uri);
/* False: there is no room. */
bool subscriptions_add(struct hub_session *session, struct slice uri);
void subscriptions_remove(struct hub_session *session, struct slice uri);
void subscriptions_clear(struct hub_session *session);
/* A request that is not there was cancelled: the oldest such word gives way. */
void early_note(struct hub_session *session, struct slice id, int64_t now_ns);
/* Was the request that has come? The word is used up. */
bool early_take(struct hub_session *session, struct slice id, int64_t now_ns);
void early_clear(struct hub_session *session);

/* hub.c */
/* Tells the server that the ask will not be answered, and forgets it. */
void hub_decline(struct hub *hub, struct hub_ask *ask, enum message_fault fault, const char *words);
/* The index of a level of log messages, the higher the graver; -1: it is none. */
int hub_level_of(struct slice level);
