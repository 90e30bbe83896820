/* The steps; see pressure.h. */
#include "admission/pressure.h"

#include <assert.h>

/* Where shedding starts by default; the steps are set around it. */
#define SHED_STEP 0.95

/* Per resource, where each action starts; 0: never. Connections that are used up shed little and
 * never stop the accepting: who finds none free waits in the backlog anyway, and is served next.
 * Evicting helps no loop that is late. */
static const double steps[PRESSURE_RESOURCES][PRESSURE_ACTIONS] = {
    [PRESSURE_FDS] = {0.85, 0.92, SHED_STEP, 0, 0},
    [PRESSURE_MEMORY] = {0.85, 0.92, SHED_STEP, 0.97, 0.98},
    [PRESSURE_LAG] = {0, 0, SHED_STEP, 2 * SHED_STEP, 0},
};

void pressure_update(struct pressure *pressure, enum pressure_resource resource, double use,
                     double shed_at) {
    double level = shed_at > 0 ? use / shed_at * SHED_STEP : 0;

    for (unsigned i = 0; i < PRESSURE_ACTIONS; i++) {
        double step = steps[resource][i];
        unsigned bit = 1U << i;

        if (shed_at <= 0 || step == 0 || level < step - PRESSURE_HYSTERESIS)
            pressure->actions[resource] &= ~bit;
        else if (level >= step)
            pressure->actions[resource] |= bit;
    }
}

unsigned pressure_actions(const struct pressure *pressure) {
    unsigned all = 0;

    for (unsigned i = 0; i < PRESSURE_RESOURCES; i++)
        all |= pressure->actions[i];
    return all;
}

const char *pressure_action_name(unsigned index) {
    static const char *const names[PRESSURE_ACTIONS] = {"evict", "close", "shed", "shed_more",
                                                        "stop"};

    assert(index < PRESSURE_ACTIONS);
    return names[index];
}

const char *pressure_resource_name(enum pressure_resource resource) {
    static const char *const names[PRESSURE_RESOURCES] = {"fds", "memory", "loop_lag"};

    assert(resource < PRESSURE_RESOURCES);
    return names[resource];
}
