/* What a client may not do to an HTTP/2 connection: each limit is reached, and what stays below it
 * is served. In this world a kind of frame has a burst of 100. */
#include "h2_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define BURST 100

static int set_up(void **state) {
    world_init();
    return 0;
}

static int tear_down(void **state) {
    world_close();
    return 0;
}

static void open_world(void) {
    world_open();
    world.is_answering = true;
    client_greets();
}

static struct h2_request *request(unsigned n) {
    return &world.requests[n];
}

static void assert_served(uint32_t stream_id) {
    char text[64];

    client_asks(stream_id, END, GET("/"));
    snprintf(text, sizeof text, "HEADERS %u END_STREAM :status=200", stream_id);
    AWAIT_HEARD(text);
}

/* --- Frames ---------------------------------------------------------------------------------- */

static void add_ping(unsigned i) {
    h2_frame(&world.out, NGHTTP2_PING, 0, 0, SLICE("12345678"));
}

static void add_ping_ack(unsigned i) {
    h2_frame(&world.out, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, SLICE("12345678"));
}

static void add_settings(unsigned i) {
    h2_settings(&world.out, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1000 + i);
}

static void add_priority(unsigned i) {
    h2_frame(&world.out, NGHTTP2_PRIORITY, 0, 1 + 2 * i, SLICE("\0\0\0\0\1"));
}

static void add_window_update(unsigned i) {
    h2_window_update(&world.out, 0, 1);
}

static void add_empty_data(unsigned i) {
    h2_data(&world.out, 1, 0, SLICE_NONE);
}

static void add_padding(unsigned i) {
    h2_data(&world.out, 1, NGHTTP2_FLAG_PADDED, SLICE("\3\0\0\0"));
}

static void add_goaway(unsigned i) {
    h2_frame(&world.out, NGHTTP2_GOAWAY, 0, 0, SLICE("\0\0\0\0\0\0\0\0"));
}

/* Content beyond its length is a stream error, which makes us reset the stream. */
static void add_error(unsigned i) {
    h2_head(&world.out, 3 + 2 * i, 0, POST("/") "content-length: 0\n");
    h2_data(&world.out, 3 + 2 * i, 0, SLICE("x"));
}

static void add_reset(unsigned i) {
    h2_head(&world.out, 3 + 2 * i, 0, POST("/"));
    h2_rst(&world.out, 3 + 2 * i, NGHTTP2_CANCEL);
}

static void a_flood_of_frames_ends_the_connection(void **state) {
    static const struct {
        void (*add)(unsigned i);
        enum h2_abuse kind;
    } floods[] = {
        {add_ping, H2_ABUSE_PING},
        {add_ping_ack, H2_ABUSE_PING},
        {add_settings, H2_ABUSE_SETTINGS},
        {add_priority, H2_ABUSE_PRIORITY},
        {add_window_update, H2_ABUSE_WINDOW_UPDATE},
        {add_empty_data, H2_ABUSE_EMPTY_DATA},
        {add_padding, H2_ABUSE_EMPTY_DATA},
        {add_goaway, H2_ABUSE_SETTINGS},
        {add_error, H2_ABUSE_PROVOKED},
        {add_reset, H2_ABUSE_RESET},
    };

    for (size_t i = 0; i < sizeof floods / sizeof *floods; i++) {
        world_init();
        open_world();
        world.is_answering = false;
        client_asks(1, 0, POST("/"));
        AWAIT_REQUESTS(1);
        for (unsigned n = 0; n < BURST - 2; n++) { /* greeting takes two SETTINGS */
            floods[i].add(n);
            if (n % 16 == 0)
                client_sends();
        }
        client_sends();
        settle_down(&world.loop, NULL);
        assert_int_equal(world.refused, 0);
        assert_false(HEARD("GOAWAY"));
        for (unsigned n = 0; n < 6; n++) /* what comes too fast, and what refills meanwhile */
            floods[i].add(BURST + n);
        client_sends();
        AWAIT_CALM();
        assert_string_equal(world.refused_why, h2_abuse_text(floods[i].kind));
        assert_true(request(0)->is_over);
        if (i + 1 < sizeof floods / sizeof *floods)
            world_close();
    }
}

static void answers_make_up_for_window_updates(void **state) {
    open_world();
    for (uint32_t i = 0; i < 3 * BURST; i++) {
        world.is_answering = false;
        client_asks(1 + 2 * i, END, GET("/"));
        AWAIT_THAT(world_server()->exchanges == 1);
        settle_down(&world.loop, NULL);
        answer(request(i % REQUESTS_MAX), 200, OF_LENGTH(3), "abc");
        h2_window_update(&world.out, 0, 3);
        client_sends();
    }
    AWAIT_THAT(HEARD_TIMES("DATA ") == 3 * BURST);
    assert_false(HEARD("GOAWAY"));
}

static void a_window_that_opens_byte_by_byte_ends_the_connection(void **state) {
    open_world();
    world.is_answering = false;
    h2_settings(&world.out, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    client_asks(1, END, GET("/"));
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    answer(request(0), 200, OF_UNKNOWN_LENGTH,
           "0123456789012345678901234567890123456789012345678901234567890123456789"
           "0123456789012345678901234567890123456789012345678901234567890123456789");
    for (unsigned i = 0; i < BURST + 8; i++) {
        h2_window_update(&world.out, 1, 1);
        client_sends();
    }
    AWAIT_CALM();
}

static void a_window_beyond_its_bound_is_an_error_of_what_it_belongs_to(void **state) {
    open_world();
    world.is_answering = false;
    client_asks(1, 0, POST("/"));
    h2_window_update(&world.out, 1, INT32_MAX);
    client_sends();
    AWAIT_HEARD("RST_STREAM 1 FLOW_CONTROL_ERROR");
    world.is_answering = true;
    assert_served(3);
    h2_window_update(&world.out, 0, INT32_MAX);
    client_sends();
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_true(HEARD("GOAWAY 3 FLOW_CONTROL_ERROR"));
}

static void resets_of_answered_streams_are_made_up_for(void **state) {
    open_world();
    for (uint32_t i = 0; i < 2 * BURST; i++) {
        assert_served(1 + 4 * i);
        client_asks(3 + 4 * i, 0, POST("/"));
        AWAIT_THAT(HEARD_TIMES("RST_STREAM") == i + 1); /* early answer */
    }
    assert_false(HEARD("GOAWAY"));
}

/* --- Streams --------------------------------------------------------------------------------- */

static void streams_that_mostly_end_early_end_the_connection(void **state) {
    world.settings.guard.per_second[H2_ABUSE_RESET] = 1000;
    open_world();
    world.is_answering = false;
    for (uint32_t i = 0; i < H2_GUARD_STREAMS; i++) {
        h2_head(&world.out, 1 + 2 * i, END, GET("/"));
        h2_rst(&world.out, 1 + 2 * i, NGHTTP2_CANCEL);
        if (i % 8 == 7)
            client_sends();
    }
    AWAIT_CALM();
    assert_string_equal(world.refused_why, "too many streams end early");
}

static void streams_that_end_early_below_the_share_are_served(void **state) {
    world.settings.guard.per_second[H2_ABUSE_RESET] = 1000;
    open_world();
    for (uint32_t i = 0; i < H2_GUARD_STREAMS; i++) {
        world.is_answering = i % 5 == 0;
        h2_head(&world.out, 1 + 2 * i, END, GET("/"));
        client_sends();
        AWAIT_THAT(world.count == i + 1 && world_server()->exchanges == !world.is_answering);
        if (!world.is_answering)
            h2_rst(&world.out, 1 + 2 * i, NGHTTP2_CANCEL);
        client_sends();
        AWAIT_THAT(world_server()->exchanges == 0);
    }
    world.is_answering = true;
    assert_served(1 + 2 * H2_GUARD_STREAMS);
}

/* --- Sections -------------------------------------------------------------------------------- */

static void a_section_in_too_many_frames_ends_the_connection(void **state) {
    struct buffer section = {0};

    open_world();
    h2_section(&section, GET("/"));
    h2_frame(&world.out, NGHTTP2_HEADERS, END, 1, buffer_slice(&section));
    for (unsigned i = 0; i < world.settings.max_continuations + 1; i++)
        h2_frame(&world.out, NGHTTP2_CONTINUATION, 0, 1, SLICE_NONE);
    client_sends();
    AWAIT_CALM();
    assert_int_equal(world.dropped, 1);
    buffer_deinit(&section);
}

static void a_section_in_some_frames_is_read(void **state) {
    struct buffer section = {0};

    open_world();
    h2_section(&section, GET("/"));
    h2_frame(&world.out, NGHTTP2_HEADERS, END, 1, slice_of(section.base, 10));
    h2_frame(&world.out, NGHTTP2_CONTINUATION, 0, 1, slice_of(section.base + 10, 10));
    h2_frame(&world.out, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1,
             slice_skip(buffer_slice(&section), 20));
    client_sends();
    AWAIT_HEARD("HEADERS 1 END_STREAM :status=200");
    buffer_deinit(&section);
}

/* One long field enters the table, and is then referred to by one byte each time. */
static void a_section_that_unfolds_without_end_ends_the_connection(void **state) {
    static char value[1000];
    struct buffer section = {0};

    open_world();
    memset(value, 'x', sizeof value);
    h2_section(&section, GET("/"));
    buffer_append(&section, SLICE("\x40\x01"
                                  "a\x7f\xe9\x06")); /* 873 + 127 bytes of value */
    buffer_append(&section, slice_of(value, sizeof value));
    for (unsigned i = 0; i < H2_SECTION_EXCESS * 2; i++)
        buffer_append_char(&section, (char)(0x80 | 62));
    h2_frame(&world.out, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | END, 1,
             buffer_slice(&section));
    client_sends();
    AWAIT_CALM();
    assert_int_equal(world.dropped, 1);
    assert_true(request(0)->x.arena.extra_bytes < 3 * world.settings.limits.head_bytes);
    buffer_deinit(&section);
}

static void a_table_larger_than_granted_is_refused(void **state) {
    struct buffer section = {0};

    open_world();
    buffer_append(&section, SLICE("\x3f\xe2\x1f")); /* a table of 4,097 bytes */
    h2_section(&section, GET("/"));
    h2_frame(&world.out, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | END, 1,
             buffer_slice(&section));
    client_sends();
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_non_null(strstr(world.reader.log.base, " COMPRESSION_ERROR\n"));
    buffer_deinit(&section);
}

/* --- Reading --------------------------------------------------------------------------------- */

static void a_client_that_reads_nothing_cannot_make_frames_pile_up(void **state) {
    world.settings.guard.per_second[H2_ABUSE_PING] = 1000000;
    open_world();
    for (unsigned i = 0; i < 100000 && !world.refused; i++) {
        add_ping(i);
        if (i % 100 == 0) {
            send(world.client, world.out.base, world.out.len, MSG_NOSIGNAL);
            world.out.len = 0;
            spin(&world.loop, NULL);
        }
    }
    assert_int_equal(world.refusal, FAIL_ABUSE);
    world.is_polite = false;
    AWAIT_CALM();
}

static void a_client_that_speaks_something_else_is_told_so(void **state) {
    world_open();
    buffer_append(&world.out, SLICE("GET / HTTP/1.1\r\nHost: here\r\n\r\n"));
    client_sends();
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_int_equal(world.refusal, FAIL_VERSION);
    assert_true(HEARD("GOAWAY 0 PROTOCOL_ERROR"));
}

#define TEST(promise) cmocka_unit_test_setup_teardown(promise, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_flood_of_frames_ends_the_connection),
        TEST(answers_make_up_for_window_updates),
        TEST(a_window_that_opens_byte_by_byte_ends_the_connection),
        TEST(a_window_beyond_its_bound_is_an_error_of_what_it_belongs_to),
        TEST(resets_of_answered_streams_are_made_up_for),
        TEST(streams_that_mostly_end_early_end_the_connection),
        TEST(streams_that_end_early_below_the_share_are_served),
        TEST(a_section_in_too_many_frames_ends_the_connection),
        TEST(a_section_in_some_frames_is_read),
        TEST(a_section_that_unfolds_without_end_ends_the_connection),
        TEST(a_table_larger_than_granted_is_refused),
        TEST(a_client_that_reads_nothing_cannot_make_frames_pile_up),
        TEST(a_client_that_speaks_something_else_is_told_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
