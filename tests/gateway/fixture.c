/* A crossing by hand; see fixture.h. */
#include "fixture.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/un.h>

static struct fixture the_fixture;

static void add(struct fixture *f, struct fields *fields, const char *name, const char *value);

int fixture_open(void **state) {
    struct fixture *f = &the_fixture;
    struct request_head *head;

    memset(f, 0, sizeof *f);
    if (loop_open(&f->gl.loop, 0))
        return -1;
    list_init(&f->gl.crossings);
    f->listener.gl = &f->gl;
    f->listener.config = &f->listener_config;
    f->pipeline_config.name = (char *)"engine";
    f->pipeline.config = &f->pipeline_config;
    f->part.shared = &f->pipeline;

    f->c = crossing_new(&f->listener);
    f->c->part = &f->part;
    f->c->request_id = SLICE("id-1");
    f->c->x.client_address = &f->client.any;
    fixture_client_is(f, AF_INET, "192.0.2.1");
    fixture_endpoint_is(f, AF_INET, "192.0.2.80", 8080);
    head = &f->c->x.request_head;
    head->method = METHOD_GET;
    head->method_text = SLICE("GET");
    head->version = HTTP_1_1;
    head->authority = SLICE("example.com");
    head->path = SLICE("/");
    f->c->x.response_head.status = 200;
    f->c->x.response_head.version = HTTP_1_1;
    *state = f;
    return 0;
}

int fixture_close(void **state) {
    struct fixture *f = *state;

    crossing_free(f->c);
    spares_drop(&f->gl.spare_crossings);
    buffer_deinit(&f->gl.scratch);
    return (int)finish_loop(&f->gl.loop);
}

void fixture_ask(struct fixture *f, const char *name, const char *value) {
    add(f, &f->c->x.request_head.fields, name, value);
}

void fixture_answer(struct fixture *f, const char *name, const char *value) {
    add(f, &f->c->x.response_head.fields, name, value);
}

void fixture_client_is(struct fixture *f, int family, const char *address) {
    memset(&f->client, 0, sizeof f->client);
    f->client.any.sa_family = (sa_family_t)family;
    if (family == AF_INET)
        assert_int_equal(inet_pton(family, address, &f->client.in.sin_addr), 1);
    else if (family == AF_INET6)
        assert_int_equal(inet_pton(family, address, &f->client.in6.sin6_addr), 1);
}

void fixture_endpoint_is(struct fixture *f, int family, const char *address, uint16_t port) {
    struct sockaddr_storage to = {.ss_family = (sa_family_t)family};

    if (family == AF_UNIX) {
        struct sockaddr_un *un = (struct sockaddr_un *)&to;

        snprintf(un->sun_path, sizeof un->sun_path, "%s", address);
    } else if (family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)&to;

        in->sin_port = htons(port);
        assert_int_equal(inet_pton(family, address, &in->sin_addr), 1);
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&to;

        in6->sin6_port = htons(port);
        assert_int_equal(inet_pton(family, address, &in6->sin6_addr), 1);
    }
    if (f->c->endpoint)
        endpoint_unref(f->c->endpoint);
    f->c->endpoint = endpoint_new(&to, 1, 1);
}

const char *fixture_values(struct fixture *f, const struct fields *fields, const char *name) {
    size_t len = 0;

    f->text[0] = '\0';
    for (uint32_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];

        if (!slice_equal_case(field->name, slice_str(name)))
            continue;
        assert_int_equal(field->id, field_id_of(field->name));
        len += (size_t)snprintf(f->text + len, sizeof f->text - len, "%s%.*s", len ? " | " : "",
                                SLICE_ARG(field->value));
        assert_true(len < sizeof f->text);
    }
    return fields_find_name(fields, slice_str(name)) ? f->text : ABSENT;
}

static void add(struct fixture *f, struct fields *fields, const char *name, const char *value) {
    struct slice s = slice_str(name);

    fields_add(fields, &f->c->x.arena, field_id_of(s), s, slice_str(value));
}
