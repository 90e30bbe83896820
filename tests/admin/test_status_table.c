/* Tests of `weir status` against a server that says what the test wants. */
#include "admin/status_table.h"

#include "base/alloc.h"
#include "base/buffer.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct server {
    int fd;
    const char *answer;
    pthread_t thread;
};

static struct config_address address;
static char text[32];

static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";

static const char json[] =
    "{\"version\":\"0.1.0\",\"pid\":42,\"uptime_s\":61,\"state\":\"live\",\"threads\":2,"
    "\"exchanges\":3,\"oldest_exchange_s\":0.25,\"fds\":{\"limit\":1024,\"client\":5,"
    "\"upstream\":4,\"file\":1,\"reserve\":32},"
    "\"listeners\":[{\"name\":\"http\",\"address\":\":8080\",\"protocol\":\"http1\","
    "\"state\":\"open\",\"connections\":5,\"connections_max\":1000,\"accepted_total\":123456,"
    "\"requests_total\":7}],"
    "\"pipelines\":[{\"name\":\"eng\\u001b[31m\",\"limit_by\":\"file\",\"queue_state\":\"calm\","
    "\"inflight\":3,\"concurrency\":64,\"queued\":0,"
    "\"queue_size\":256,\"streams\":1,\"held\":9,\"streams_limit\":1000,\"endpoints\":["
    "{\"address\":\"127.0.0.1:8090\",\"state\":\"ejected\",\"connections\":4,"
    "\"connections_max\":96,\"inflight\":3,\"dials\":0,\"since_s\":12.0,\"again_s\":8.5,"
    "\"reason\":\"stalls: stalled\"},{}]}]}";

static void *serve(void *arg) {
    struct server *server = arg;
    int fd = accept(server->fd, NULL, NULL);
    char request[1024];

    if (recv(fd, request, sizeof request, 0) <= 0)
        abort();
    if (send(fd, server->answer, strlen(server->answer), MSG_NOSIGNAL) < 0)
        abort();
    close(fd);
    return NULL;
}

static void open_server(struct server *server, const char *answer) {
    struct sockaddr_in *in = (void *)&address.sockaddr;
    socklen_t len = sizeof *in;

    *server = (struct server){.answer = answer};
    address = (struct config_address){.kind = ADDRESS_INET, .text = text, .sockaddr_len = len};
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->fd, (struct sockaddr *)in, len), 0);
    assert_int_equal(listen(server->fd, 4), 0);
    getsockname(server->fd, (struct sockaddr *)in, &len);
    address.port = ntohs(in->sin_port);
    snprintf(text, sizeof text, "127.0.0.1:%u", address.port);
    if (answer)
        pthread_create(&server->thread, NULL, serve, server);
}

static void close_server(struct server *server) {
    if (server->answer)
        pthread_join(server->thread, NULL);
    close(server->fd);
}

/* What status_print() writes, and what it says on standard error. The caller frees both. */
static int print(bool as_json, char **out, char **err) {
    size_t out_len, err_len;
    FILE *out_file = open_memstream(out, &out_len), *err_file = open_memstream(err, &err_len);
    FILE *saved = stderr;
    int code;

    stderr = err_file;
    code = status_print(&address, out_file, as_json);
    stderr = saved;
    fclose(out_file);
    fclose(err_file);
    return code;
}

static void expect(const char *answer, bool as_json, int code, const char *out_text,
                   const char *err_text) {
    struct server server;
    char *out, *err;

    open_server(&server, answer);
    assert_int_equal(print(as_json, &out, &err), code);
    assert_string_equal(out, out_text);
    if (!strstr(err, err_text))
        fail_msg("%s", err);
    free(out);
    free(err);
    close_server(&server);
}

static void overload_is_shown_while_there_is_any(void **state) {
    char *answer = xasprintf("%s%s", head, "{\"overload\":[\"evict\",\"cl\\u001bose\",5]}");

    expect(answer, false, 0,
           "weir -, pid -, state -, up (s) -, threads -, exchanges -, oldest (s) -\n"
           "fds: limit -, client -, upstream -, file -, reserve -\n"
           "overload: evict, cl?ose, 5\n"
           "\nLISTENER  ADDRESS  PROTOCOL  STATE  CONNECTIONS  ACCEPTED  REQUESTS\n"
           "\nPIPELINE  LIMIT BY  QUEUE  IN FLIGHT  QUEUED  STREAMS  HELD\n"
           "\nPIPELINE  ENDPOINT  STATE  FOR (S)  CONNECTIONS  IN FLIGHT  DIALS  FAILURES"
           "  AGAIN IN (S)  REASON\n",
           "");
    free(answer);
}

static void tables_are_aligned_and_harmless(void **state) {
    char *answer = xasprintf("%s%s", head, json);

    expect(answer, false, 0,
           "weir 0.1.0, pid 42, state live, up (s) 61, threads 2, exchanges 3, oldest (s) 0.2\n"
           "fds: limit 1024, client 5, upstream 4, file 1, reserve 32\n"
           "\n"
           "LISTENER  ADDRESS  PROTOCOL  STATE  CONNECTIONS  ACCEPTED  REQUESTS\n"
           "http      :8080    http1     open        5/1000    123456         7\n"
           "\n"
           "PIPELINE  LIMIT BY  QUEUE  IN FLIGHT  QUEUED  STREAMS  HELD\n"
           "eng?[31m  file      calm        3/64   0/256   1/1000     9\n"
           "\n"
           "PIPELINE  ENDPOINT        STATE    FOR (S)  CONNECTIONS  IN FLIGHT  DIALS  FAILURES"
           "  AGAIN IN (S)  REASON\n"
           "eng?[31m  127.0.0.1:8090  ejected     12.0         4/96          3      0         -"
           "           8.5  stalls: stalled\n"
           "eng?[31m  -               -              -          -/-          -      -         -"
           "             -  -\n",
           "");
    free(answer);
}

static void json_is_passed_on(void **state) {
    char *answer = xasprintf("%s%s", head, json);

    expect(answer, true, 0, json, "");
    free(answer);
}

static void odd_answers_are_errors(void **state) {
    expect("HTTP/1.1 500 Oops\r\n\r\n{}", false, 1, "", "the answer is not weir's");
    expect("SSH-2.0-x\r\n", false, 1, "", "the answer is not weir's");
    expect("HTTP/1.1 200 OK\r\n\r\n{\"a\":", false, 1, "", "weir: cannot read the status of '127.");
    expect("HTTP/1.1 200 OK\r\n\r\n[]", false, 1, "", "not a JSON object");
}

static void nobody_there_is_said_clearly(void **state) {
    struct server server;
    char *out, *err, *expected;

    open_server(&server, NULL);
    close_server(&server);
    assert_int_equal(print(false, &out, &err), 1);
    expected =
        xasprintf("weir: cannot connect to '%s': Connection refused; is weir running?\n", text);
    assert_string_equal(err, expected);
    free(expected);
    free(out);
    free(err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overload_is_shown_while_there_is_any),
        cmocka_unit_test(tables_are_aligned_and_harmless),
        cmocka_unit_test(json_is_passed_on),
        cmocka_unit_test(odd_answers_are_errors),
        cmocka_unit_test(nobody_there_is_said_clearly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
