/* Which route a request takes: compiled once from the configuration, asked once per exchange.
 *
 * The path is normalised first, and only for matching: percent-encoded unreserved characters are
 * decoded, dot segments removed (RFC 3986 section 6.2.2), empty segments merged; what could mean
 * one thing to weir and another to the server behind it is refused (path.c has the list). A request
 * without a path (CONNECT, "OPTIONS *") matches only routes without one. Most specific first: host
 * (exact, then the longest wildcard, then any); then exact path, then the longest prefix on segment
 * borders; then gRPC calls before others; then the
 * number of fields; then a method list before none; then the order of the file.
 * Thousands of routes cost little more than one. */
#pragma once

#include "config/config.h"
#include "exchange/head.h"

struct route_table;

enum route_outcome {
    ROUTE_FOUND,
    ROUTE_NONE,      /* 404 */
    ROUTE_NO_METHOD, /* 405: something would match but for the method; *allow lists what would do */
    ROUTE_BAD_TARGET, /* 400: ambiguous path; *why says how */
};

struct route_match {
    const struct config_route *route; /* borrowed: config */
    size_t index;                     /* of the route in the config */
    struct slice path;                /* normalised, without query; arena */
    struct slice allow;               /* ROUTE_NO_METHOD: "GET, POST"; arena */
    const char *why;                  /* ROUTE_BAD_TARGET */
};

/* @config must outlive the table. Immutable afterwards; any thread. */
struct route_table *route_table_new(const struct config *config);
void route_table_free(struct route_table *table);

enum route_outcome route_match(const struct route_table *table, size_t listener,
                               const struct request_head *head, struct arena *arena,
                               struct route_match *match);

/* Normalises the path (without query) of @target into @arena. False: ambiguous, *why says how. */
bool route_normalise_path(struct slice target, struct arena *arena, struct slice *path,
                          const char **why);
