#include "pipeline/service.h"

#define SECOND 1e9

static void close_window(struct service *service, int64_t now_ns);

void service_learn(struct service *service, const struct service_sample *sample, int64_t now_ns) {
    int64_t mean_ns;
    double weight = (double)sample->count / SERVICE_WEIGHT;

    if (sample->count == 0)
        return;
    mean_ns = sample->sum_ns / sample->count;
    weight = weight < 0.5 ? weight : 0.5;
    if (service->mean_ns == 0)
        service->mean_ns = mean_ns;
    service->mean_ns += (int64_t)(weight * (double)(mean_ns - service->mean_ns));
    if (now_ns - service->floor_from_ns >= SERVICE_FLOOR_NS) {
        service->floor_ns[1] = service->floor_ns[0];
        service->floor_ns[0] = 0;
        service->floor_from_ns = now_ns;
    }
    if (service->floor_ns[0] == 0 || sample->min_ns < service->floor_ns[0])
        service->floor_ns[0] = sample->min_ns;
}

void service_drain_begin(struct service *service, int64_t now_ns) {
    service->drain_from_ns = now_ns;
    service->drained = 0;
}

void service_drain_end(struct service *service, int64_t now_ns) {
    service->drain_from_ns = 0;
}

void service_drained(struct service *service, int64_t now_ns) {
    int64_t spent_ns = now_ns - service->drain_from_ns;

    service->drained++;
    if (spent_ns >= SERVICE_RATE_NS &&
        (service->drained >= SERVICE_RATE_MIN || spent_ns >= (int64_t)SECOND))
        close_window(service, now_ns);
}

int64_t service_floor_ns(const struct service *service) {
    const int64_t *floor = service->floor_ns;

    return floor[0] == 0 || (floor[1] > 0 && floor[1] < floor[0]) ? floor[1] : floor[0];
}

double service_rate(const struct service *service, unsigned places, int64_t now_ns) {
    double rate = service->per_s, most;
    int64_t spent_ns = service->drain_from_ns ? now_ns - service->drain_from_ns : 0;

    if (rate <= 0 && service->mean_ns > 0)
        rate = places * SECOND / (double)service->mean_ns;
    if (spent_ns >= SERVICE_RATE_NS) {
        most = (service->drained + 1) * SECOND / (double)spent_ns;
        rate = rate < most ? rate : most;
    }
    return rate;
}

static void close_window(struct service *service, int64_t now_ns) {
    double per_s = service->drained * SECOND / (double)(now_ns - service->drain_from_ns);

    service->per_s = service->per_s > 0 ? (service->per_s + per_s) / 2 : per_s;
    service_drain_begin(service, now_ns);
}
