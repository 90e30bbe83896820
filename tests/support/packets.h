/* How many TCP packets (segments) have come in on a socket. Apart, because the kernel's header and
 * libc's, which libuv needs, exclude each other. */
#pragma once

unsigned packets_in(int fd);
