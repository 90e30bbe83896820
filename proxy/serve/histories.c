#include "serve/histories.h"

#include "base/buffer.h"
#include "base/control.h"

static json_t *save(void *ctx, const struct keeper_now *now);
static json_t *save_row(const struct board_row *row, const struct keeper_now *now);
static void take_up(void *ctx, const json_t *saved, const struct keeper_now *now);
static void tell(const struct histories *histories, const char *name, const json_t *saved,
                 const struct keeper_now *now);

struct keeper_section histories_section(struct histories *histories) {
    return (struct keeper_section){"processes", histories, save, take_up};
}

static json_t *save(void *ctx, const struct keeper_now *now) {
    const struct histories *histories = ctx;
    json_t *saved = json_object();

    for (size_t i = 0; i < histories->config->pipeline_count; i++) {
        const struct config_pipeline *pipeline = &histories->config->pipelines[i];
        const struct board_row *row =
            pipeline->process ? board_find(histories->board, pipeline->name) : NULL;

        if (row && atomic_load(&row->death_count) > 0)
            json_object_set_new(saved, pipeline->name, save_row(row, now));
    }
    return saved;
}

static json_t *save_row(const struct board_row *row, const struct keeper_now *now) {
    json_t *saved = json_object(), *deaths = json_array();
    struct respawn respawn;

    board_read_respawn(row, &respawn);
    for (unsigned i = 0; i < respawn.count; i++)
        json_array_append_new(deaths, keeper_instant(respawn.at_ns[i], now));
    json_object_set_new(saved, "deaths", deaths);
    if (respawn.state == RESPAWN_HELD)
        json_object_set_new(saved, "held_until", keeper_instant(respawn.held_until_ns, now));
    else if (respawn.state == RESPAWN_PROBING)
        json_object_set_new(saved, "is_probing", json_true());
    return saved;
}

static void take_up(void *ctx, const json_t *saved, const struct keeper_now *now) {
    const struct histories *histories = ctx;

    for (size_t i = 0; i < histories->config->pipeline_count; i++) {
        const char *name = histories->config->pipelines[i].name;
        const json_t *one = json_object_get(saved, name);

        if (histories->config->pipelines[i].process && json_is_object(one))
            tell(histories, name, one, now);
    }
}

/* The nursery believes no more than that it is such a text. */
static void tell(const struct histories *histories, const char *name, const json_t *saved,
                 const struct keeper_now *now) {
    const struct config_process *process = NULL;
    const json_t *deaths = json_object_get(saved, "deaths"), *item;
    struct buffer text = {0};
    int64_t ahead_ns, before_ns = INT64_MIN;
    unsigned count = 0;
    size_t i;

    for (size_t p = 0; p < histories->config->pipeline_count; p++)
        if (strcmp(histories->config->pipelines[p].name, name) == 0)
            process = histories->config->pipelines[p].process;
    buffer_printf(&text, "history %s ", name);
    json_array_foreach(deaths, i, item) {
        if (count > CONFIG_DEATHS_MAX || !keeper_ahead(item, now, &ahead_ns) || ahead_ns > 0 ||
            ahead_ns < before_ns || ahead_ns < -process->crash.window_ns - process->crash.hold_ns)
            continue;
        buffer_printf(&text, "%lld ", (long long)(-ahead_ns / NS_PER_MS));
        before_ns = ahead_ns;
        count++;
    }
    if (keeper_ahead(json_object_get(saved, "held_until"), now, &ahead_ns) &&
        ahead_ns <= process->crash.hold_ns)
        buffer_printf(&text, "held %lld", (long long)(ahead_ns / NS_PER_MS));
    else if (json_is_true(json_object_get(saved, "is_probing")))
        buffer_append(&text, SLICE("probing"));
    /* If it is lost, so is what was before this start. */
    if (count > 0 && histories->nursery >= 0)
        control_send_bytes(histories->nursery, buffer_slice(&text), NULL, 0);
    buffer_deinit(&text);
}
