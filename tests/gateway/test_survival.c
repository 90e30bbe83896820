/* Tests of what of all endpoints outlives the process: a gateway of pipelines only. */
#include "gateway/survival.h"

#include "state/state_file.h"
#include "support/unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIPELINES 3
#define ENDPOINTS (SURVIVAL_ENDPOINTS_MAX / (PIPELINES - 1))
#define PATH "./state.json"

static atomic_bool is_over;
static char directory[64];
static struct config config;
static struct config_pipeline pipelines[PIPELINES];
static char *names[] = {(char *)"one", (char *)"two", (char *)"three"};
static struct gateway gateway;

/* More endpoints than may be kept: 10.0.@pipeline.x:@number. */
static int open_pipelines(void **state) {
    config = (struct config){.pipelines = pipelines, .pipeline_count = PIPELINES};
    gateway = (struct gateway){.config = &config};
    gateway.pipelines = calloc(PIPELINES, sizeof(struct pipeline *));
    for (unsigned i = 0; i < PIPELINES; i++) {
        struct config_address *endpoints = calloc(ENDPOINTS, sizeof *endpoints);
        char *why = NULL;

        for (unsigned j = 0; j < ENDPOINTS; j++) {
            struct sockaddr_in *in = (void *)&endpoints[j].sockaddr;

            in->sin_family = AF_INET;
            in->sin_port = htons((uint16_t)(j + 1));
            in->sin_addr.s_addr = htonl(0x0A000000 + i);
        }
        pipelines[i] = (struct config_pipeline){.name = names[i],
                                                .endpoints = endpoints,
                                                .endpoint_count = ENDPOINTS,
                                                .limits = {.connections = 1, .concurrency = 1}};
        assert_int_equal(
            pipeline_open(&gateway.pipelines[i],
                          &(struct pipeline_options){.config = &pipelines[i], .loops = 1}, &why),
            0);
    }
    return 0;
}

static int close_pipelines(void **state) {
    for (unsigned i = 0; i < PIPELINES; i++) {
        pipeline_close(gateway.pipelines[i]);
        free(pipelines[i].endpoints);
    }
    free(gateway.pipelines);
    return 0;
}

static int enter(void **state) {
    snprintf(directory, sizeof directory, "/tmp/weir-survival-XXXXXX");
    return mkdtemp(directory) && chdir(directory) == 0 ? open_pipelines(state) : -1;
}

static int leave(void **state) {
    close_pipelines(state);
    unlink(PATH);
    return chdir("/") == 0 ? rmdir(directory) : -1;
}

static struct endpoint *endpoint_at(unsigned pipeline, unsigned i) {
    struct endpoint_set *set = pipeline_endpoints(gateway.pipelines[pipeline]);
    struct endpoint *endpoint = set->list[i];

    endpoint_set_unref(set);
    return endpoint;
}

/* Ends the process, so to say, and starts the next. */
static void restart(void) {
    struct keeper *keeper = keeper_open(PATH);

    survival_open(&gateway, keeper);
    keeper_start(keeper);
    keeper_close(keeper);
    close_pipelines(NULL);
    open_pipelines(NULL);
}

static void take_up(void) {
    struct keeper *keeper = keeper_open(PATH);

    survival_open(&gateway, keeper);
    keeper_close(keeper);
}

static unsigned count_down(void) {
    unsigned count = 0;

    for (unsigned i = 0; i < PIPELINES; i++)
        for (unsigned j = 0; j < ENDPOINTS; j++)
            count += !endpoint_is_up(endpoint_at(i, j));
    return count;
}

static void each_endpoint_finds_its_own_again(void **state) {
    endpoint_dial_failed(endpoint_at(0, 7), FAIL_CONNECT_REFUSED, clock_now_ns());
    endpoint_dial_failed(endpoint_at(2, 8), FAIL_CONNECT_TIMEOUT, clock_now_ns());
    restart();
    assert_int_equal(count_down(), 0);
    take_up();
    assert_int_equal(count_down(), 2);
    assert_int_equal(endpoint_at(0, 7)->dial_fail, FAIL_CONNECT_REFUSED);
    assert_int_equal(endpoint_at(2, 8)->dial_fail, FAIL_CONNECT_TIMEOUT);
}

static void what_the_configuration_no_longer_has_is_dropped(void **state) {
    json_t *sections;

    endpoint_dial_failed(endpoint_at(0, 7), FAIL_CONNECT_REFUSED, clock_now_ns());
    endpoint_dial_failed(endpoint_at(1, 7), FAIL_CONNECT_REFUSED, clock_now_ns());
    restart();
    pipelines[0].name = (char *)"renamed";
    take_up();
    assert_int_equal(count_down(), 1);
    restart();
    sections = state_file_read(PATH);
    assert_int_equal(json_object_size(json_object_get(sections, "endpoints")), 1);
    assert_non_null(json_object_get(json_object_get(sections, "endpoints"), "two"));
    json_decref(sections);
}

static void no_more_than_the_bound_are_kept_and_those_fit_the_file(void **state) {
    for (unsigned i = 0; i < PIPELINES; i++)
        for (unsigned j = 0; j < ENDPOINTS; j++)
            endpoint_dial_failed(endpoint_at(i, j), FAIL_CONNECT_REFUSED, clock_now_ns());
    assert_int_equal(count_down(), PIPELINES * ENDPOINTS);
    restart();
    take_up();
    assert_int_equal(count_down(), SURVIVAL_ENDPOINTS_MAX);
}

static unsigned limit_of(unsigned pipeline) {
    return gate_limit(&gateway.pipelines[pipeline]->concurrency);
}

static void learned_limits_are_found_again(void **state) {
    json_t *sections, *limits;

    pipelines[0].limits.concurrency = 0;
    pipelines[0].limits.concurrency_min = 4;
    pipelines[0].limits.concurrency_max = 100;
    for (unsigned i = 0; i < PIPELINES; i++)
        pipeline_close(gateway.pipelines[i]);
    for (unsigned i = 0; i < PIPELINES; i++) {
        char *why = NULL;

        assert_int_equal(
            pipeline_open(&gateway.pipelines[i],
                          &(struct pipeline_options){.config = &pipelines[i], .loops = 1}, &why),
            0);
    }
    assert_int_equal(limit_of(0), LIMITER_START);
    assert_int_equal(limit_of(1), 1);
    limits = json_pack("{s:i, s:i, s:i}", "one", 77, "two", 50, "gone", 9);
    sections = json_pack("{s:o}", "limits", limits);
    assert_int_equal(state_file_write(PATH, sections, &is_over), 0);
    json_decref(sections);
    take_up();
    assert_int_equal(limit_of(0), 77);
    assert_int_equal(limit_of(1), 1); /* the file says */
    restart();
    sections = state_file_read(PATH);
    limits = json_object_get(sections, "limits");
    assert_int_equal(json_object_size(limits), 1);
    assert_int_equal(json_integer_value(json_object_get(limits, "one")), 77);
    json_decref(sections);
}

static void a_limit_that_makes_no_sense_is_dropped(void **state) {
    json_t *sections = json_pack("{s:{s:i, s:s}}", "limits", "one", -5, "two", "many");

    assert_int_equal(state_file_write(PATH, sections, &is_over), 0);
    json_decref(sections);
    take_up();
    assert_int_equal(limit_of(0), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, enter, leave)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_endpoint_finds_its_own_again),
        TEST(what_the_configuration_no_longer_has_is_dropped),
        TEST(no_more_than_the_bound_are_kept_and_those_fit_the_file),
        TEST(learned_limits_are_found_again),
        TEST(a_limit_that_makes_no_sense_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
