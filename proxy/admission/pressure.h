/* How close weir is to what it may use, and what it does about it. A loop asks ten times a second,
 * so that no request has to. Every action starts at a fixed step around the share at which requests
 * are shed and ends PRESSURE_HYSTERESIS below, so that nothing flaps. Home: loop. */
#pragma once

enum pressure_resource {
    PRESSURE_FDS,    /* client connections, of those that there may be */
    PRESSURE_MEMORY, /* resident bytes, of those that there may be */
    PRESSURE_LAG,    /* how late the loop is, of what is borne */
    PRESSURE_RESOURCES
};

enum pressure_action {
    PRESSURE_EVICT = 1 << 0,     /* close idle keepalive connections, the longest idle first */
    PRESSURE_CLOSE = 1 << 1,     /* answer with Connection: close, so that others get a turn */
    PRESSURE_SHED = 1 << 2,      /* refuse background requests */
    PRESSURE_SHED_MORE = 1 << 3, /* refuse all but critical ones */
    PRESSURE_STOP = 1 << 4,      /* accept nothing: the backlog waits */
};

#define PRESSURE_ACTIONS 5
#define PRESSURE_HYSTERESIS 0.05

/* Zeroed memory is no pressure. */
struct pressure {
    unsigned actions[PRESSURE_RESOURCES]; /* enum pressure_action bits in force */
};

/* @use: the share in use, 1.0 is all. @shed_at: the share at which requests are shed; 0: this
 * resource asks for nothing. A use that could not be read is 0. */
void pressure_update(struct pressure *pressure, enum pressure_resource resource, double use,
                     double shed_at);

/* What any resource asks for. */
unsigned pressure_actions(const struct pressure *pressure);

/* As in metrics: of the action that is bit @index (below PRESSURE_ACTIONS), and of a resource. */
const char *pressure_action_name(unsigned index);
const char *pressure_resource_name(enum pressure_resource resource);
