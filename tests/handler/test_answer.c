/* Frames and answers: what is written is read, what a plugin may not ask for is refused, and a
 * packed answer that somebody has scribbled over is no answer, whatever is in it. */
#include "support/unit.h"

#include "handler/answer.h"
#include "handler/edits.h"

#include <stdlib.h>
#include <string.h>

static struct answer_room room;
static char packed[sizeof(struct answer_room)];
static struct frame *frame;
static struct arena arena;
static char first[512];
static struct call_answer answer;

static struct slice text_of(struct weir_text text) {
    return frame_slice(text);
}

static void make_frame(enum call_phase phase) {
    static struct field fields[] = {
        {{"accept", 6}, {"*/*", 3}, FIELD_ACCEPT, false},
        {{"x-empty", 7}, {"", 0}, FIELD_OTHER, false},
    };
    static struct field answered[] = {{{"server", 6}, {"some", 4}, FIELD_SERVER, false}};
    const struct request_head request = {
        .version = HTTP_2,
        .method_text = SLICE("POST"),
        .authority = SLICE("example.test:8080"),
        .path = SLICE("/a?b=c"),
        .fields = {fields, 2, 2},
    };
    const struct response_head response = {.status = 204, .fields = {answered, 1, 1}};
    const struct call_variable variables[] = {{SLICE("user"), SLICE("ann")},
                                              {SLICE("plan"), SLICE("")}};
    const struct call_input input = {
        .handler = 3,
        .phase = phase,
        .request = &request,
        .response = phase == CALL_RESPONSE ? &response : NULL,
        .request_id = SLICE("id-1"),
        .scheme = SLICE("https"),
        .listener = SLICE("grpc"),
        .route = SLICE("all"),
        .client_address = SLICE("192.0.2.7"),
        .client_certificate = SLICE(":AA:"),
        .client_subject = SLICE("CN=ann"),
        .client_port = 4711,
        .is_secure = true,
        .has_body = true,
        .body = SLICE("content"),
        .variables = variables,
        .variable_count = 2,
    };

    free(frame);
    frame = malloc(frame_bytes(&input));
    frame_write(frame, &input, 99);
    answer_clear(&room);
}

static bool read_back(void) {
    size_t bytes = answer_packed_bytes(&room);

    arena_deinit(&arena);
    arena_init(&arena, first, sizeof first);
    answer_pack(&room, packed);
    return answer_read(packed, bytes, frame, &arena, &answer);
}

static void check_frame(const struct frame *f) {
    assert_true(slice_equal(text_of(f->request.method), SLICE("POST")));
    assert_true(slice_equal(text_of(f->request.path), SLICE("/a?b=c")));
    assert_true(slice_equal(text_of(f->request.authority), SLICE("example.test:8080")));
    assert_true(slice_equal(text_of(f->request.client_subject), SLICE("CN=ann")));
    assert_true(slice_equal(text_of(f->request.body), SLICE("content")));
    assert_int_equal(f->request.field_count, 2);
    assert_true(slice_equal(text_of(f->request.fields[0].value), SLICE("*/*")));
    assert_true(slice_equal(text_of(f->request.fields[1].name), SLICE("x-empty")));
    assert_int_equal(f->request.deadline_ns, 99);
    assert_int_equal(f->variable_count, 2);
    assert_true(slice_equal(text_of(f->variables[0].value), SLICE("ann")));
    if (f->phase == CALL_RESPONSE)
        assert_true(slice_equal(text_of(f->response.fields[0].value), SLICE("some")));
}

static void a_frame_holds_a_copy_of_everything(void **state) {
    make_frame(CALL_RESPONSE);
    check_frame(frame);
    assert_int_equal(frame->response.status, 204);
    assert_true((const char *)frame->request.body.base + 7 <= (const char *)frame + frame->bytes);
}

static void a_frame_can_be_moved(void **state) {
    struct frame *copy;

    make_frame(CALL_RESPONSE);
    copy = malloc(frame->bytes);
    memcpy(copy, frame, frame->bytes);
    memset(frame + 1, 'x', frame->bytes - sizeof *frame); /* nothing points there any more */
    frame_move(copy);
    check_frame(copy);
    assert_ptr_equal(copy->home, copy);
    free(copy);
}

static void edits_come_back_in_order(void **state) {
    make_frame(CALL_REQUEST);
    assert_true(answer_add(&room, ANSWER_SET_FIELD, SLICE("x-a"), SLICE("1")));
    assert_true(answer_add(&room, ANSWER_ADD_FIELD, SLICE("X-B"), SLICE("")));
    assert_true(answer_add(&room, ANSWER_REMOVE_FIELD, SLICE("cookie"), SLICE_NONE));
    assert_true(answer_add(&room, ANSWER_PATH, SLICE_NONE, SLICE("/new?x")));
    assert_true(answer_add(&room, ANSWER_VARIABLE, SLICE("plan"), SLICE("gold")));
    assert_true(answer_add(&room, ANSWER_VARIABLE, SLICE("extra"), SLICE("1")));
    assert_true(read_back());
    assert_int_equal(answer.outcome, CALL_CONTINUE);
    assert_int_equal(answer.edit_count, 3);
    assert_int_equal(answer.edits[0].kind, CALL_SET_FIELD);
    assert_true(slice_equal(answer.edits[1].name, SLICE("X-B")));
    assert_int_equal(answer.edits[2].kind, CALL_REMOVE_FIELD);
    assert_true(slice_equal(answer.path, SLICE("/new?x")));
    assert_int_equal(answer.variable_count, 3);
    assert_true(slice_equal(answer.variables[0].value, SLICE("ann")));
    assert_true(slice_equal(answer.variables[1].value, SLICE("gold")));
    assert_int_equal(answer.field_count, 0);
}

static void a_reply_comes_back(void **state) {
    make_frame(CALL_REQUEST);
    room.head.verdict = WEIR_RESPOND;
    assert_true(answer_add(&room, ANSWER_RESPOND_FIELD, SLICE("x-why"), SLICE("so")));
    assert_true(answer_reply(&room, ANSWER_REFUSE, 403, SLICE("first"), SLICE("one")));
    assert_true(answer_reply(&room, ANSWER_RESPOND, 429, SLICE("too many"), SLICE_NONE));
    assert_true(read_back());
    assert_int_equal(answer.outcome, CALL_RESPOND);
    assert_int_equal(answer.status, 429);
    assert_true(slice_equal(answer.content, SLICE("too many")));
    assert_int_equal(answer.field_count, 1);
    assert_true(answer_reply(&room, ANSWER_REFUSE, 401, SLICE("no key"), SLICE("send one")));
    assert_true(read_back());
    assert_int_equal(answer.outcome, CALL_REFUSE);
    assert_true(slice_equal(answer.title, SLICE("no key")));
    assert_true(slice_equal(answer.remedy, SLICE("send one")));
}

static void fields_for_other_answers_come_back_of_requests_only(void **state) {
    for (enum call_phase phase = CALL_REQUEST; phase <= CALL_RESPONSE; phase++) {
        make_frame(phase);
        assert_true(answer_add(&room, ANSWER_RESPOND_FIELD, SLICE("x-why"), SLICE("so")));
        assert_true(read_back());
        assert_int_equal(answer.outcome, CALL_CONTINUE);
        assert_int_equal(answer.field_count, phase == CALL_REQUEST);
    }
}

static void a_verdict_without_a_reply_is_no_answer(void **state) {
    make_frame(CALL_REQUEST);
    room.head.verdict = WEIR_RESPOND;
    assert_false(read_back());
    room.head.verdict = 7;
    assert_false(read_back());
    make_frame(CALL_RESPONSE);
    room.head.verdict = WEIR_RESPOND;
    answer_reply(&room, ANSWER_RESPOND, 200, SLICE("x"), SLICE_NONE);
    assert_false(read_back());
}

static void the_budget_of_a_call_ends(void **state) {
    static char large[CALL_CONTENT_MAX + 1];
    size_t bytes = 0;
    unsigned count = 0;

    make_frame(CALL_REQUEST);
    assert_null(answer_alloc(&room, CALL_ALLOC_MAX + 1));
    while (answer_alloc(&room, 1000))
        bytes += 1008;
    assert_true(bytes > CALL_ALLOC_MAX - 2000 && bytes <= CALL_ALLOC_MAX);
    assert_false(answer_add(&room, ANSWER_SET_FIELD, SLICE("x"), slice_of(large, 5000)));
    make_frame(CALL_REQUEST);
    while (answer_add(&room, ANSWER_SET_FIELD, SLICE("x"), SLICE("y")))
        count++;
    assert_int_equal(count, ANSWER_RECORDS_MAX);
    make_frame(CALL_REQUEST);
    assert_false(answer_add(&room, ANSWER_SET_FIELD, SLICE("x"), slice_of(large, CALL_ALLOC_MAX)));
    assert_true(
        answer_reply(&room, ANSWER_RESPOND, 200, slice_of(large, CALL_CONTENT_MAX), SLICE_NONE));
    assert_false(answer_reply(&room, ANSWER_RESPOND, 200, slice_of(large, CALL_CONTENT_MAX + 1),
                              SLICE_NONE));
    assert_false(
        answer_reply(&room, ANSWER_REFUSE, 403, slice_of(large, CALL_CONTENT_MAX), SLICE("x")));
}

static void there_are_so_many_variables_and_no_more(void **state) {
    char name[8];

    make_frame(CALL_REQUEST); /* with two */
    for (int i = 0; i < CALL_VARIABLES_MAX - 2; i++) {
        snprintf(name, sizeof name, "v%d", i);
        assert_true(answer_has_variable_room(&room, frame, slice_str(name)));
        assert_true(answer_add(&room, ANSWER_VARIABLE, slice_str(name), SLICE("x")));
    }
    assert_false(answer_has_variable_room(&room, frame, SLICE("another")));
    assert_true(answer_has_variable_room(&room, frame, SLICE("v3")));
    assert_true(answer_has_variable_room(&room, frame, SLICE("user")));
    assert_true(slice_equal(text_of(answer_variable(&room, frame, SLICE("v3"))), SLICE("x")));
    assert_true(slice_equal(text_of(answer_variable(&room, frame, SLICE("user"))), SLICE("ann")));
    assert_int_equal(answer_variable(&room, frame, SLICE("none")).len, 0);
    assert_true(read_back());
    assert_int_equal(answer.variable_count, CALL_VARIABLES_MAX);
    answer_add(&room, ANSWER_VARIABLE, SLICE("another"), SLICE("x"));
    assert_false(read_back());
}

static void what_frames_a_message_cannot_be_edited(void **state) {
    const char *const forbidden[] = {"Content-Length",
                                     "transfer-encoding",
                                     "connection",
                                     "TE",
                                     "upgrade",
                                     "host",
                                     "a b",
                                     "",
                                     "a:",
                                     "keep-alive",
                                     "trailer"};

    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        assert_false(edit_may_name(slice_str(forbidden[i])));
        make_frame(CALL_REQUEST); /* a plugin may write past the host's check */
        answer_add(&room, ANSWER_SET_FIELD, slice_str(forbidden[i]), SLICE("1"));
        assert_false(read_back());
    }
    assert_true(edit_may_name(SLICE("Authorization")));
    assert_true(edit_may_name(SLICE("content-type")));
}

static void values_and_paths_cannot_break_a_message(void **state) {
    assert_false(edit_is_value(SLICE("a\r\nb: c")));
    assert_false(edit_is_value(SLICE("a\nb")));
    assert_false(edit_is_value(slice_of("a\0b", 3)));
    assert_false(edit_is_value(SLICE(" a")));
    assert_false(edit_is_value(SLICE("a\t")));
    assert_true(edit_is_value(SLICE("a \t\xc3\xa4")));
    assert_true(edit_is_value(SLICE("")));
    assert_false(edit_is_path(SLICE("a")));
    assert_false(edit_is_path(SLICE("")));
    assert_false(edit_is_path(SLICE("/a b")));
    assert_false(edit_is_path(SLICE("/a#b")));
    assert_false(edit_is_path(SLICE("/a\r\n")));
    assert_true(edit_is_path(SLICE("/a?b=%20")));
    assert_false(edit_is_status(199));
    assert_false(edit_is_status(600));
    assert_true(edit_is_status(599));
    assert_false(edit_is_variable(SLICE("A"), SLICE("1")));
    assert_false(edit_is_variable(SLICE("a"), SLICE("1\n")));
    make_frame(CALL_REQUEST);
    answer_add(&room, ANSWER_ADD_FIELD, SLICE("x"), SLICE("a\r\nb: c"));
    assert_false(read_back());
    make_frame(CALL_REQUEST);
    answer_add(&room, ANSWER_PATH, SLICE_NONE, SLICE("//\x7f"));
    assert_false(read_back());
    make_frame(CALL_RESPONSE);
    answer_add(&room, ANSWER_PATH, SLICE_NONE, SLICE("/"));
    assert_false(read_back());
}

static void a_status_is_for_responses(void **state) {
    make_frame(CALL_RESPONSE);
    assert_true(answer_add_status(&room, 418));
    assert_true(read_back());
    assert_int_equal(answer.status, 418);
    make_frame(CALL_REQUEST);
    answer_add_status(&room, 418);
    assert_false(read_back());
}

/* Every byte of it, and its length, may be anything. */
static void scribbles_are_survived(void **state) {
    uint64_t seed = 11;
    size_t bytes;

    for (int round = 0; round < 20000; round++) {
        char *exact;

        make_frame(round % 2 ? CALL_REQUEST : CALL_RESPONSE);
        answer_add(&room, ANSWER_SET_FIELD, SLICE("x-a"), SLICE("1"));
        answer_add(&room, ANSWER_VARIABLE, SLICE("v"), SLICE("2"));
        answer_reply(&room, ANSWER_REFUSE, 403, SLICE("title"), SLICE("remedy"));
        bytes = answer_packed_bytes(&room);
        exact = malloc(bytes); /* so that a sanitizer sees what is read behind it */
        answer_pack(&room, exact);
        for (int i = 0; i < 1 + round % 4; i++)
            exact[rnd(&seed) % bytes] = (char)(rnd(&seed) % 4 ? rnd(&seed) % 8 : rnd(&seed));
        arena_deinit(&arena);
        arena_init(&arena, first, sizeof first);
        if (answer_read(exact, bytes - rnd(&seed) % 3, frame, &arena, &answer)) {
            for (unsigned i = 0; i < answer.edit_count; i++)
                assert_true(edit_may_name(answer.edits[i].name) &&
                            edit_is_value(answer.edits[i].value));
            assert_true(answer.title.len + answer.remedy.len + answer.content.len <= bytes);
        }
        free(exact);
    }
    /* The room itself, too, is the plugin's to damage while its call runs. */
    make_frame(CALL_REQUEST);
    for (int round = 0; round < 20000; round++) {
        answer_clear(&room);
        answer_add(&room, ANSWER_VARIABLE, SLICE("v"), SLICE("2"));
        ((unsigned char *)&room)[rnd(&seed) % 60] = (unsigned char)rnd(&seed);
        answer_variable(&room, frame, SLICE("v"));
        answer_has_variable_room(&room, frame, SLICE("v"));
        answer_add(&room, ANSWER_VARIABLE, SLICE("w"), SLICE("3"));
        bytes = answer_packed_bytes(&room);
        assert_true(bytes <= sizeof packed);
        answer_pack(&room, packed);
        arena_deinit(&arena);
        arena_init(&arena, first, sizeof first);
        answer_read(packed, bytes, frame, &arena, &answer);
    }
}

static int clean_up(void **state) {
    arena_deinit(&arena);
    free(frame);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_holds_a_copy_of_everything),
        cmocka_unit_test(a_frame_can_be_moved),
        cmocka_unit_test(edits_come_back_in_order),
        cmocka_unit_test(a_reply_comes_back),
        cmocka_unit_test(fields_for_other_answers_come_back_of_requests_only),
        cmocka_unit_test(a_verdict_without_a_reply_is_no_answer),
        cmocka_unit_test(the_budget_of_a_call_ends),
        cmocka_unit_test(there_are_so_many_variables_and_no_more),
        cmocka_unit_test(what_frames_a_message_cannot_be_edited),
        cmocka_unit_test(values_and_paths_cannot_break_a_message),
        cmocka_unit_test(a_status_is_for_responses),
        cmocka_unit_test(scribbles_are_survived),
    };

    return cmocka_run_group_tests(tests, NULL, clean_up);
}
