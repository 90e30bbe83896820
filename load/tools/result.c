#include "result.h"

#include <stdio.h>
#include <string.h>

static double late_share(const struct plan *plan);

void result_begin(struct result *result, const struct plan *plan) {
    result->plan = plan;
    series_begin(&result->series, plan->series_ms * 1000000, plan->begin_ns,
                 plan->warmup_ns + plan->duration_ns);
}

void result_open_window(struct result *result) {
    result->bytes = result->explained = 0;
    memset(result->statuses, 0, sizeof result->statuses);
    result->cpu_s = pids_cpu_s(&result->plan->pids);
    result->self_s = measure_self_cpu_s();
}

void result_end(struct result *result) {
    result->cpu_s = pids_cpu_s(&result->plan->pids) - result->cpu_s;
    result->self_s = measure_self_cpu_s() - result->self_s;
}

void result_ok(struct result *result, uint64_t start_ns, uint64_t now_ns) {
    uint64_t spent_ns = now_ns > start_ns ? now_ns - start_ns : 0;

    if (result->plan->is_counting)
        histogram_add(&result->ok, spent_ns);
    series_add(&result->series, SERIES_OK, now_ns, spent_ns);
}

void result_refused(struct result *result, uint64_t start_ns, uint64_t now_ns, bool is_explained) {
    uint64_t spent_ns = now_ns > start_ns ? now_ns - start_ns : 0;

    result->explained += is_explained;
    if (result->plan->is_counting)
        histogram_add(&result->refused, spent_ns);
    series_add(&result->series, SERIES_REFUSED, now_ns, spent_ns);
}

void result_status(struct result *result, int status) {
    if (status > 0 && status < RESULT_STATUS_MAX)
        result->statuses[status]++;
}

void result_failed(struct result *result, unsigned failure) {
    result->errors[failure]++;
    series_add(&result->series, SERIES_ERROR, result->plan->now_ns, 0);
}

uint64_t result_answered(const struct result *result) {
    return result->ok.total + result->refused.total;
}

void result_print(const struct result *result) {
    const struct plan *plan = result->plan;
    double seconds = (double)(plan->end_ns - plan->window_ns) / 1e9;
    uint64_t errors = 0;

    for (unsigned i = 0; i < result->failure_count; i++)
        errors += result->errors[i];
    printf("{\"seconds\":%.6f,\"per_second\":%.1f,\"cpu_s\":%.6f,\"self_cpu_s\":%.6f,"
           "\"bytes\":%llu,\"opened\":%llu,\"reopened\":%llu,\"unsent\":%llu,\"explained\":%llu",
           seconds, (double)result->ok.total / seconds, result->cpu_s, result->self_s,
           (unsigned long long)result->bytes, (unsigned long long)result->opened,
           (unsigned long long)result->reopened, (unsigned long long)plan_unsent(plan),
           (unsigned long long)result->explained);
    printf(",\"late\":{\"count\":%llu,\"share\":%.6f,\"max_us\":%.1f}",
           (unsigned long long)plan->late, late_share(plan), (double)plan->late_max_ns / 1000);
    histogram_print("ok", &result->ok);
    histogram_print("refused", &result->refused);
    series_print(&result->series);
    printf(",\"errors\":%llu,\"failures\":{", (unsigned long long)errors);
    for (unsigned i = 0, n = 0; i < result->failure_count; i++) {
        if (result->errors[i])
            printf("%s\"%s\":%llu", n++ ? "," : "", result->failures[i],
                   (unsigned long long)result->errors[i]);
    }
    printf("},\"statuses\":{");
    for (int i = 0, n = 0; i < RESULT_STATUS_MAX; i++) {
        if (result->statuses[i])
            printf("%s\"%d\":%llu", n++ ? "," : "", i, (unsigned long long)result->statuses[i]);
    }
    printf("}}\n");
}

static double late_share(const struct plan *plan) {
    uint64_t begun = plan->dispatched - plan->window_dispatched;

    return begun ? (double)plan->late / (double)begun : 0;
}
