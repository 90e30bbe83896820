/* One row per promise of h1_parse.h. Every input is parsed in one piece, cut in two at every place,
 * and byte by byte: the outcome, the reason and the head must be the same. */
#include "codec/h1_parse.h"

#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct h1_limits limits = {.head_bytes = 512, .target_bytes = 64, .fields = 8};

struct row {
    const char *promise;
    const char *in;
    enum h1_outcome outcome;
    const char *expect; /* DONE: the head as show() writes it; otherwise the reason; NULL: any */
    enum method method; /* responses: what they answer */
    size_t len;         /* of @in, where it holds a NUL */
};

struct result {
    enum h1_outcome outcome;
    const char *why;
    size_t used;
    struct buffer head;
};

#define GET "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"
#define SIXTEEN "0123456789abcdef"
#define SIXTY_FOUR SIXTEEN SIXTEEN SIXTEEN SIXTEEN

static const struct row requests[] = {
    {"a plain request", GET HOST "\r\n", H1_DONE, "GET 1.1 origin '' 'a' '/' none"},
    {"fields keep order, case and inner space; OWS around values goes",
     GET "B:  x  y \t\r\na:\r\nHost: a\r\nB: 2\r\n\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/' none B=x  y a= B=2"},
    {"obs-text and HTAB may be in values", GET HOST "A: \x80\t\xff\r\n\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/' none A=\x80\t\xff"},
    {"one empty line in front is skipped", "\r\n" GET HOST "\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/' none"},
    {"a second empty line in front is not", "\r\n\r\n" GET HOST "\r\n", H1_BAD, NULL},
    {"LF in front is refused", "\n" GET HOST "\r\n", H1_BAD, "line ends in LF without CR"},
    {"what follows the head is left alone", GET HOST "\r\nGET", H1_DONE,
     "GET 1.1 origin '' 'a' '/' none"},
    {"nothing is partial", "", H1_PARTIAL, NULL},
    {"an unfinished head is partial", GET HOST "A: b", H1_PARTIAL, NULL},

    /* RFC 9112 section 2.2 */
    {"bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", H1_BAD,
     "line ends in LF without CR"},
    {"bare LF behind a field", GET "Host: a\n\r\n", H1_BAD, "line ends in LF without CR"},
    {"bare LF at the end", GET HOST "\n", H1_BAD, "line ends in LF without CR"},
    {"bare CR in a value", GET HOST "A: b\rc\r\n\r\n", H1_BAD, "CR without LF"},
    {"bare CR in a name", GET HOST "A\rb: c\r\n\r\n", H1_BAD, "CR without LF"},
    {"bare CR at the end", GET HOST "\r\r\n", H1_BAD, "CR without LF"},
    {"bare CR in the target", "GET /\ra HTTP/1.1\r\nHost: a\r\n\r\n", H1_BAD, "CR without LF"},
    {"NUL in a value", GET HOST "A: b\0c\r\n\r\n", H1_BAD, "control character",
     .len = sizeof GET HOST "A: b\0c\r\n\r\n" - 1},
    {"a control character in a value", GET HOST "A: b\x01\r\n\r\n", H1_BAD, "control character"},
    {"DEL in a value", GET HOST "A: b\x7f\r\n\r\n", H1_BAD, "control character"},
    {"bytes of another protocol are refused at once", "\x1b[A", H1_BAD, "control character"},
    {"a TLS handshake is told", "\x16\x03\x01", H1_BAD, "it begins like TLS, not like HTTP/1"},
    {"further on it is no handshake", "GET /\x16\x03\x01", H1_BAD, "control character"},

    /* RFC 9112 section 3: request line */
    {"a method is a token", "G(T / HTTP/1.1\r\n" HOST "\r\n", H1_BAD, "method is not a token"},
    {"a bad method is refused before its line ends", "G(T", H1_BAD, "method is not a token"},
    {"a method is ASCII", "G\xc3T / HTTP/1.1\r\n" HOST "\r\n", H1_BAD, "method is not a token"},
    {"a method is required", " / HTTP/1.1\r\n" HOST "\r\n", H1_BAD, "method is not a token"},
    {"an unknown method is fine", "M-SEARCH / HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "M-SEARCH 1.1 origin '' 'a' '/' none"},
    {"methods mind case", "get / HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "get 1.1 origin '' 'a' '/' none"},
    {"a method has a bound", SIXTY_FOUR "a / HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "method is too long"},
    {"a method of 64 bytes is within it", SIXTY_FOUR " / HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     SIXTY_FOUR " 1.1 origin '' 'a' '/' none"},
    {"one space before the target", "GET  / HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "malformed HTTP version"},
    {"one space behind the target", "GET /  HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "malformed HTTP version"},
    {"no space behind the version", "GET / HTTP/1.1 \r\n" HOST "\r\n", H1_BAD,
     "malformed HTTP version"},
    {"no tab for a space", "GET\t/ HTTP/1.1\r\n" HOST "\r\n", H1_BAD, NULL},
    {"no line without a version", "GET /\r\n" HOST "\r\n", H1_BAD,
     "request line is not method, target and version"},
    {"no line without a target", "GET\r\n" HOST "\r\n", H1_BAD,
     "request line is not method, target and version"},
    {"a bad request line is refused before the head ends", "GET / HTP/1.1\r\n", H1_BAD,
     "malformed HTTP version"},

    /* RFC 9110 section 2.5 */
    {"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", H1_DONE, "GET 1.0 origin '' '' '/' none"},
    {"HTTP/1.2 to 1.9 are treated as 1.1", "GET / HTTP/1.9\r\n" HOST "\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/' none"},
    {"HTTP/2.0 is not for here", "GET / HTTP/2.0\r\n" HOST "\r\n", H1_VERSION, NULL},
    {"HTTP/0.9 is not for here", "GET / HTTP/0.9\r\n" HOST "\r\n", H1_VERSION, NULL},
    {"the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", H1_VERSION, NULL},
    {"two digits in a version", "GET / HTTP/1.10\r\n" HOST "\r\n", H1_BAD,
     "malformed HTTP version"},
    {"a version is in upper case", "GET / http/1.1\r\n" HOST "\r\n", H1_BAD,
     "malformed HTTP version"},
    {"a version has a dot", "GET / HTTP/1,1\r\n" HOST "\r\n", H1_BAD, "malformed HTTP version"},

    /* RFC 9112 section 3.2: targets */
    {"origin-form with a query", "GET /a?b=%20&c={\"d\"} HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/a?b=%20&c={\"d\"}' none"},
    {"no fragment", "GET /a#b HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "request target has a character that must be encoded"},
    {"no non-ASCII target", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "request target has a character that must be encoded"},
    {"no control character in the target", "GET /\x01 HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "control character"},
    {"no relative target", "GET a HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "request target is neither a path nor an http or https URI"},
    {"absolute-form replaces Host", "GET http://b:81/c?d HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "GET 1.1 absolute 'http' 'b:81' '/c?d' none"},
    {"absolute-form ignores case in the scheme", "GET HTTPS://b/ HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "GET 1.1 absolute 'HTTPS' 'b' '/' none"},
    {"absolute-form without a path", "GET http://b HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "GET 1.1 absolute 'http' 'b' '/' none"},
    {"absolute-form with a query only", "GET http://b?c HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "GET 1.1 absolute 'http' 'b' '/?c' none"},
    {"absolute-form still needs Host", "GET http://b/ HTTP/1.1\r\n\r\n", H1_BAD, "Host is missing"},
    {"absolute-form still needs a good Host", "GET http://b/ HTTP/1.1\r\nHost: /\r\n\r\n", H1_BAD,
     "Host is malformed"},
    {"absolute-form without user information", "GET http://u@b/ HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "request target has user information"},
    {"absolute-form with a host", "GET http:///a HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "request target has no well-formed host"},
    {"absolute-form with a good host", "GET http://[::/ HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "request target has no well-formed host"},
    {"no other scheme", "GET ftp://b/ HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "request target is neither a path nor an http or https URI"},
    {"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "OPTIONS 1.1 asterisk '' 'a' '*' none"},
    {"OPTIONS for a whole server in absolute-form becomes '*'",
     "OPTIONS http://b HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "OPTIONS 1.1 asterisk 'http' 'b' '*' none"},
    {"'*' is for OPTIONS only", "GET * HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "target '*' is for OPTIONS only"},
    {"CONNECT takes authority-form", "CONNECT b:443 HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "CONNECT 1.1 authority '' 'b:443' '' none"},
    {"CONNECT to an IPv6 address", "CONNECT [::1]:443 HTTP/1.1\r\n" HOST "\r\n", H1_DONE,
     "CONNECT 1.1 authority '' '[::1]:443' '' none"},
    {"CONNECT needs a port", "CONNECT b HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "target of CONNECT is not host:port"},
    {"CONNECT takes no path", "CONNECT /a HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "target of CONNECT is not host:port"},
    {"authority-form is for CONNECT only", "GET b:443 HTTP/1.1\r\n" HOST "\r\n", H1_BAD,
     "request target is neither a path nor an http or https URI"},

    /* RFC 9112 section 3.2: Host */
    {"Host is required on 1.1", GET "\r\n", H1_BAD, "Host is missing"},
    {"Host is not repeated", GET HOST HOST "\r\n", H1_BAD, "Host is repeated"},
    {"Host is not repeated on 1.0", "GET / HTTP/1.0\r\n" HOST HOST "\r\n", H1_BAD,
     "Host is repeated"},
    {"Host may be empty", GET "Host:\r\n\r\n", H1_DONE, "GET 1.1 origin '' '' '/' none"},
    {"Host with a port", GET "hOST: a.b:80\r\n\r\n", H1_DONE,
     "GET 1.1 origin '' 'a.b:80' '/' none"},
    {"Host without a path", GET "Host: a/b\r\n\r\n", H1_BAD, "Host is malformed"},
    {"Host without user information", GET "Host: u@a\r\n\r\n", H1_BAD, "Host is malformed"},
    {"Host without a space", GET "Host: a b\r\n\r\n", H1_BAD, "Host is malformed"},
    {"Host without a scheme", GET "Host: http://a\r\n\r\n", H1_BAD, "Host is malformed"},
    {"a malformed Host on 1.0", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", H1_BAD, "Host is malformed"},

    /* RFC 9112 section 5, RFC 9110 section 5 */
    {"no space before a colon", GET HOST "A : b\r\n\r\n", H1_BAD,
     "field name has a space before its colon"},
    {"no tab before a colon", GET HOST "A\t: b\r\n\r\n", H1_BAD,
     "field name has a space before its colon"},
    {"no space in a name", GET HOST "A b: c\r\n\r\n", H1_BAD, "field name is not a token"},
    {"no empty name", GET HOST ": b\r\n\r\n", H1_BAD, "field name is empty"},
    {"no line without a colon", GET HOST "A\r\n\r\n", H1_BAD, "field line has no colon"},
    {"no non-ASCII name", GET HOST "\xc3\xa4: b\r\n\r\n", H1_BAD, "field name is not a token"},
    {"no obs-fold", GET HOST "A: b\r\n c\r\n\r\n", H1_BAD, "field line is folded"},
    {"no obs-fold with a tab", GET HOST "A: b\r\n\tc\r\n\r\n", H1_BAD, "field line is folded"},
    {"no space in front of the first field", GET " Host: a\r\n\r\n", H1_BAD,
     "field line is folded"},
    {"the first fault is the one that is told", GET "A: b\r\n c\r\nd\r\n\r\n", H1_BAD,
     "field line is folded"},

    /* RFC 9112 section 6 */
    {"Content-Length", GET HOST "Content-Length: 12\r\n\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/' length 12 Content-Length=12"},
    {"Content-Length may have leading zeros", GET HOST "Content-Length: 007\r\n\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/' length 7 Content-Length=007"},
    {"the largest Content-Length", GET HOST "Content-Length: 9223372036854775807\r\n\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/' length 9223372036854775807 Content-Length=9223372036854775807"},
    {"Content-Length overflows", GET HOST "Content-Length: 9223372036854775808\r\n\r\n", H1_BAD,
     "Content-Length is too large"},
    {"Content-Length wraps around", GET HOST "Content-Length: 18446744073709551617\r\n\r\n", H1_BAD,
     "Content-Length is too large"},
    {"Content-Length is empty", GET HOST "Content-Length: \r\n\r\n", H1_BAD,
     "Content-Length is empty"},
    {"Content-Length has a sign", GET HOST "Content-Length: +1\r\n\r\n", H1_BAD,
     "Content-Length is not a number"},
    {"Content-Length is negative", GET HOST "Content-Length: -1\r\n\r\n", H1_BAD,
     "Content-Length is not a number"},
    {"Content-Length is hexadecimal", GET HOST "Content-Length: 0x1\r\n\r\n", H1_BAD,
     "Content-Length is not a number"},
    {"Content-Length is a list", GET HOST "Content-Length: 1, 1\r\n\r\n", H1_BAD,
     "Content-Length is not a number"},
    {"Content-Lengths that differ", GET HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
     H1_BAD, "Content-Length is repeated"},
    {"Content-Lengths that agree", GET HOST "Content-Length: 1\r\ncontent-length: 1\r\n\r\n",
     H1_BAD, "Content-Length is repeated"},
    {"chunked", GET HOST "Transfer-Encoding: chunked\r\n\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/' chunked Transfer-Encoding=chunked"},
    {"chunked ignores case", GET HOST "transfer-encoding: CHUNKED\r\n\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/' chunked transfer-encoding=CHUNKED"},
    {"both framings", GET HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", H1_BAD,
     "Transfer-Encoding and Content-Length are both present"},
    {"both framings the other way round",
     GET HOST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", H1_BAD,
     "Transfer-Encoding and Content-Length are both present"},
    {"chunked on 1.0", "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", H1_BAD,
     "Transfer-Encoding needs HTTP/1.1"},
    {"another coding before chunked", GET HOST "Transfer-Encoding: gzip, chunked\r\n\r\n",
     H1_NOT_CODED, NULL},
    {"another coding in a line of its own",
     GET HOST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", H1_NOT_CODED, NULL},
    {"chunked with a parameter", GET HOST "Transfer-Encoding: chunked;a=b\r\n\r\n", H1_BAD,
     "Transfer-Encoding does not end in chunked"},
    {"another coding alone", GET HOST "Transfer-Encoding: gzip\r\n\r\n", H1_BAD,
     "Transfer-Encoding does not end in chunked"},
    {"identity", GET HOST "Transfer-Encoding: identity\r\n\r\n", H1_BAD,
     "Transfer-Encoding does not end in chunked"},
    {"chunked is not last", GET HOST "Transfer-Encoding: chunked, gzip\r\n\r\n", H1_BAD,
     "Transfer-Encoding goes on behind chunked"},
    {"chunked twice", GET HOST "Transfer-Encoding: chunked, chunked\r\n\r\n", H1_BAD,
     "Transfer-Encoding goes on behind chunked"},
    {"chunked in two lines",
     GET HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", H1_BAD,
     "Transfer-Encoding goes on behind chunked"},
    {"chunked in quotes", GET HOST "Transfer-Encoding: \"chunked\"\r\n\r\n", H1_BAD,
     "Transfer-Encoding does not end in chunked"},
    {"an empty Transfer-Encoding", GET HOST "Transfer-Encoding:\r\n\r\n", H1_BAD,
     "Transfer-Encoding has an empty element"},
    {"an empty coding", GET HOST "Transfer-Encoding: , chunked\r\n\r\n", H1_BAD,
     "Transfer-Encoding has an empty element"},
    {"an empty coding at the end", GET HOST "Transfer-Encoding: chunked,\r\n\r\n", H1_BAD, NULL},
    {"a vertical tab before chunked", GET HOST "Transfer-Encoding: \vchunked\r\n\r\n", H1_BAD,
     "control character"},

    /* RFC 9110 section 10.1.1 */
    {"100-continue", GET HOST "Expect: 100-Continue\r\n\r\n", H1_DONE,
     "GET 1.1 origin '' 'a' '/' none Expect=100-Continue"},
    {"another expectation", GET HOST "Expect: tea\r\n\r\n", H1_EXPECT,
     "expectation is not 100-continue"},
    {"another expectation behind 100-continue",
     GET HOST "Expect: 100-continue\r\nExpect: tea\r\n\r\n", H1_EXPECT, NULL},
    {"HTTP/1.0 has no expectations", "GET / HTTP/1.0\r\nExpect: tea\r\n\r\n", H1_DONE,
     "GET 1.0 origin '' '' '/' none Expect=tea"},

    /* limits */
    {"the longest target",
     "GET /" SIXTEEN SIXTEEN SIXTEEN "0123456789abcde HTTP/1.1\r\n" HOST "\r\n", H1_DONE, NULL},
    {"a target beyond it", "GET /" SIXTY_FOUR " HTTP/1.1\r\n" HOST "\r\n", H1_TARGET_LONG,
     "request target is too long"},
    {"a target beyond it is refused before it ends", "GET /" SIXTY_FOUR, H1_TARGET_LONG, NULL},
    {"eight fields", GET HOST "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\n\r\n", H1_DONE, NULL},
    {"nine fields", GET HOST "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\n\r\n", H1_HEAD_LARGE,
     "too many fields"},
    {"nine fields are refused before the head ends",
     GET HOST "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\n", H1_HEAD_LARGE, NULL},
    {"a head of 512 bytes",
     GET HOST "A: " SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR
         SIXTEEN SIXTEEN "\r\n\r\n",
     H1_DONE, NULL},
    {"a head of 513 bytes",
     GET HOST "A: " SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR
         SIXTEEN SIXTEEN "0\r\n\r\n",
     H1_HEAD_LARGE, "too many bytes"},
    {"a head of 512 bytes without an end",
     GET HOST "A: " SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR
         SIXTEEN SIXTEEN "0123",
     H1_HEAD_LARGE, "too many bytes"},
};

#define OK "HTTP/1.1 200 OK\r\n"
#define LENGTH "Content-Length: 3\r\n"

static const struct row responses[] = {
    {"a response up to the end of the connection", OK "\r\n", H1_DONE, "200 1.1 'OK' close"},
    {"a response with a length", OK LENGTH "\r\n", H1_DONE,
     "200 1.1 'OK' length 3 Content-Length=3"},
    {"a chunked response", OK "Transfer-Encoding: chunked\r\n\r\n", H1_DONE,
     "200 1.1 'OK' chunked Transfer-Encoding=chunked"},
    {"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n", H1_DONE, "200 1.0 'OK' close"},
    {"a reason may be empty", "HTTP/1.1 200 \r\n\r\n", H1_DONE, "200 1.1 '' close"},
    {"a reason may have any text", "HTTP/1.1 299 a\t\x80 b\r\n\r\n", H1_DONE,
     "299 1.1 'a\t\x80 b' close"},
    {"status 999", "HTTP/1.1 999 x\r\n\r\n", H1_DONE, "999 1.1 'x' close"},
    {"HEAD has no content", OK LENGTH "\r\n", H1_DONE, "200 1.1 'OK' none Content-Length=3",
     METHOD_HEAD},
    {"204 has no content", "HTTP/1.1 204 x\r\n" LENGTH "\r\n", H1_DONE,
     "204 1.1 'x' none Content-Length=3"},
    {"304 has no content", "HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n", H1_DONE,
     "304 1.1 'x' none Transfer-Encoding=chunked"},
    {"100 has no content", "HTTP/1.1 100 x\r\n\r\n", H1_DONE, "100 1.1 'x' none"},
    {"101 is a tunnel", "HTTP/1.1 101 x\r\n\r\n", H1_DONE, "101 1.1 'x' tunnel"},
    {"2xx to CONNECT is a tunnel", OK LENGTH "\r\n", H1_DONE,
     "200 1.1 'OK' tunnel Content-Length=3", METHOD_CONNECT},
    {"another status to CONNECT is not", "HTTP/1.1 403 x\r\n" LENGTH "\r\n", H1_DONE,
     "403 1.1 'x' length 3 Content-Length=3", METHOD_CONNECT},

    {"no empty line in front", "\r\n" OK "\r\n", H1_BAD, "malformed status line"},
    {"a status line is refused before it ends", "HTTX", H1_BAD, "malformed status line"},
    {"no other protocol", "SSH-2.0-x\r\n", H1_BAD, "malformed status line"},
    {"no HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", H1_BAD, "malformed status line"},
    {"a space behind the status", "HTTP/1.1 200\r\n\r\n", H1_BAD, "malformed status line"},
    {"a number for a status", "HTTP/1.1 2x0 OK\r\n\r\n", H1_BAD, "malformed status line"},
    {"no status below 100", "HTTP/1.1 099 OK\r\n\r\n", H1_BAD, "malformed status line"},
    {"no status of two digits", "HTTP/1.1 20 OK\r\n\r\n", H1_BAD, "malformed status line"},
    {"no status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", H1_BAD, "malformed status line"},
    {"no negative status", "HTTP/1.1 -20 OK\r\n\r\n", H1_BAD, "malformed status line"},
    {"one space before the status", "HTTP/1.1  200 OK\r\n\r\n", H1_BAD, "malformed status line"},
    {"an alert of TLS is told", "\x15\x03\x01\x02", H1_BAD, "it begins like TLS, not like HTTP/1"},
    {"HTTP/2 is told", "\0\0\x12\x04\0\0", H1_BAD, "it begins like HTTP/2, not like HTTP/1",
     .len = 6},
    {"no control character in a reason", "HTTP/1.1 200 O\x01K\r\n\r\n", H1_BAD,
     "control character"},
    {"no bare LF behind the status line", "HTTP/1.1 200 OK\nA: b\r\n\r\n", H1_BAD,
     "line ends in LF without CR"},
    {"no bare LF behind a field", OK "A: b\n\r\n", H1_BAD, "line ends in LF without CR"},
    {"no bare LF at the end", OK "A: b\r\n\n", H1_BAD, "line ends in LF without CR"},
    {"no obs-fold", OK "A: b\r\n c\r\n\r\n", H1_BAD, "field line is folded"},
    {"no space before a colon", OK "A : b\r\n\r\n", H1_BAD,
     "field name has a space before its colon"},
    {"both framings", OK LENGTH "Transfer-Encoding: chunked\r\n\r\n", H1_BAD,
     "Transfer-Encoding and Content-Length are both present"},
    {"Content-Length repeated", OK LENGTH LENGTH "\r\n", H1_BAD, "Content-Length is repeated"},
    {"chunked on 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", H1_BAD,
     "Transfer-Encoding needs HTTP/1.1"},
    {"another coding", OK "Transfer-Encoding: gzip, chunked\r\n\r\n", H1_BAD,
     "Transfer-Encoding names a coding other than chunked"},
    {"nine fields", OK "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\nI:\r\n\r\n", H1_HEAD_LARGE,
     "too many fields"},
    {"an endless head",
     OK
     "A: " SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR SIXTY_FOUR,
     H1_HEAD_LARGE, "too many bytes"},
};

static void show(struct buffer *to, struct content content, const struct fields *fields) {
    static const char *const kinds[] = {"none", "length", "chunked", "close", "tunnel"};

    buffer_printf(to, "%s", kinds[content.kind]);
    if (content.kind == CONTENT_LENGTH)
        buffer_printf(to, " %llu", (unsigned long long)content.length);
    for (uint32_t i = 0; i < fields->count; i++)
        buffer_printf(to, " %.*s=%.*s", SLICE_ARG(fields->list[i].name),
                      SLICE_ARG(fields->list[i].value));
}

static struct result parse(const struct row *row, bool is_request, size_t len, size_t seen) {
    static const char *const forms[] = {"origin", "absolute", "authority", "asterisk"};
    static char memory[16384];
    struct result result = {0};
    struct request_head request;
    struct response_head response;
    struct content content;
    struct arena arena;
    char *in = malloc(len ? len : 1); /* exactly as long, and gone before the head is looked at */

    assert_non_null(in);
    memcpy(in, row->in, len);
    arena_init(&arena, memory, sizeof memory);
    if (is_request)
        result.outcome = h1_parse_request(slice_of(in, len), seen, &limits, &arena, &request,
                                          &content, &result.used, &result.why);
    else
        result.outcome = h1_parse_response(slice_of(in, len), seen, &limits, row->method, &arena,
                                           &response, &content, &result.used, &result.why);
    free(in);
    if (result.outcome == H1_DONE && is_request) {
        buffer_printf(&result.head, "%.*s 1.%d %s '%.*s' '%.*s' '%.*s' ",
                      SLICE_ARG(request.method_text), request.version - HTTP_1_0,
                      forms[request.form], SLICE_ARG(request.scheme), SLICE_ARG(request.authority),
                      SLICE_ARG(request.path));
        show(&result.head, content, &request.fields);
    } else if (result.outcome == H1_DONE) {
        buffer_printf(&result.head, "%u 1.%d '%.*s' ", response.status, response.version - HTTP_1_0,
                      SLICE_ARG(response.reason));
        show(&result.head, content, &response.fields);
    }
    buffer_append_char(&result.head, '\0');
    arena_deinit(&arena);
    return result;
}

static void assert_same(struct result a, struct result b) {
    assert_int_equal(a.outcome, b.outcome);
    if (a.outcome != H1_PARTIAL && a.outcome != H1_DONE)
        assert_string_equal(a.why, b.why);
    if (a.outcome == H1_DONE)
        assert_int_equal(a.used, b.used);
    assert_string_equal(a.head.base, b.head.base);
    buffer_deinit(&b.head);
}

static void check(const struct row *row, bool is_request) {
    size_t len = row->len ? row->len : strlen(row->in);
    struct result whole = parse(row, is_request, len, 0), part;

    assert_int_equal(whole.outcome, row->outcome);
    if (row->expect)
        assert_string_equal(whole.outcome == H1_DONE ? whole.head.base : whole.why, row->expect);

    for (size_t cut = 0; cut <= len; cut++) {
        part = parse(row, is_request, cut, 0);
        if (part.outcome == H1_PARTIAL) {
            buffer_deinit(&part.head);
            part = parse(row, is_request, len, cut);
        }
        assert_same(whole, part);
    }
    for (size_t seen = 0; seen <= len; seen++) {
        part = parse(row, is_request, seen, seen > 0 ? seen - 1 : 0);
        if (part.outcome != H1_PARTIAL || seen == len)
            break;
        buffer_deinit(&part.head);
    }
    assert_same(whole, part);
    buffer_deinit(&whole.head);
}

static void check_request(void **state) {
    check(*state, true);
}

static void check_response(void **state) {
    check(*state, false);
}

static void authorities_are_checked(void **state) {
    static const char *const good[] = {"",
                                       "a",
                                       "a.b:80",
                                       "1.2.3.4:1",
                                       "[::1]",
                                       "[::1]:80",
                                       "a:",
                                       ":80",
                                       "a%2Fb",
                                       "a_b.",
                                       "[::ffff:1.2.3.4]:65535"};
    static const char *const bad[] = {
        "a b", "a/b",  "u@a",     "a:b",        "a:65536", "[::1", "[::1]a",   "[]",  "[1.2.3.4]",
        "a%2", "a%zz", "a:80:81", "[::1%eth0]", "::1",     "a\\b", "\xc3\xa4", "a?b", "[v1.a]"};

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!h1_is_authority(slice_str(good[i])))
            fail_msg("'%s' was refused", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (h1_is_authority(slice_str(bad[i])))
            fail_msg("'%s' was let through", bad[i]);
    assert_true(h1_is_authority(SLICE_NONE));
}

static void connections_persist_as_the_rfc_says(void **state) {
    static const struct {
        enum http_version version;
        const char *connection;
        bool is_persistent;
    } rows[] = {
        {HTTP_1_1, NULL, true},
        {HTTP_1_0, NULL, false},
        {HTTP_1_1, "close", false},
        {HTTP_1_1, "a, Close", false},
        {HTTP_1_1, "keep-alive", true},
        {HTTP_1_0, "Keep-Alive", true},
        {HTTP_1_0, "keep-alive, close", false},
    };
    char memory[1024];
    struct arena arena;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fields fields = {0};

        arena_init(&arena, memory, sizeof memory);
        if (rows[i].connection)
            fields_add(&fields, &arena, FIELD_CONNECTION, SLICE("Connection"),
                       slice_str(rows[i].connection));
        assert_int_equal(h1_is_persistent(rows[i].version, &fields), rows[i].is_persistent);
        arena_deinit(&arena);
    }
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

int main(void) {
    struct CMUnitTest tests[COUNT(requests) + COUNT(responses) + 2] = {
        cmocka_unit_test(authorities_are_checked),
        cmocka_unit_test(connections_persist_as_the_rfc_says),
    };
    struct CMUnitTest *next = tests + 2;

    for (size_t i = 0; i < COUNT(requests); i++)
        *next++ = (struct CMUnitTest){requests[i].promise, check_request, NULL, NULL,
                                      (void *)(uintptr_t)&requests[i]};
    for (size_t i = 0; i < COUNT(responses); i++)
        *next++ = (struct CMUnitTest){responses[i].promise, check_response, NULL, NULL,
                                      (void *)(uintptr_t)&responses[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
