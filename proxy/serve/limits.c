#include "serve/limits.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

void limits_raise_fds(void) {
    struct rlimit fds;

    if (getrlimit(RLIMIT_NOFILE, &fds) == 0) {
        fds.rlim_cur = fds.rlim_max;
        setrlimit(RLIMIT_NOFILE, &fds);
    }
}

void limits_make_room_for_fds(unsigned count) {
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC,
                   (int)(count < LIMITS_FDS_AHEAD ? count : LIMITS_FDS_AHEAD) - 1);

    if (fd >= 0)
        close(fd);
}

struct config_options limits_of_process(void) {
    struct config_options options = {.fd_limit = 1024, .cores = 1};
    struct rlimit fds;
    cpu_set_t cpus;

    limits_raise_fds();
    if (getrlimit(RLIMIT_NOFILE, &fds) == 0)
        options.fd_limit = fds.rlim_cur < UINT32_MAX ? (unsigned)fds.rlim_cur : UINT32_MAX;
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 0)
        options.cores = (unsigned)CPU_COUNT(&cpus);
    return options;
}
