/* A link between two network namespaces that delays packets and loses some: what netem does where
 * the kernel has it.
 *
 *     link NAMESPACE NAMESPACE DEVICE MILLISECONDS PER_MILLE
 *
 * makes the device in both (files of /run/netns), says "ready", and passes packets on until its
 * standard input ends. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST = 65536, WAITING = 4096 };

struct packet {
    double due;
    size_t size;
    char *data;
};

/* Packets for one end, in the order in which they came: all are delayed alike. */
struct queue {
    int to;
    size_t first, count;
    struct packet packets[WAITING];
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int open_end(const char *name, const char *device) {
    char path[128];
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(path, sizeof path, "/run/netns/%s", name);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET)) {
        fprintf(stderr, "link: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    close(space);
    int end = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (end < 0 || ioctl(end, TUNSETIFF, &request)) {
        fprintf(stderr, "link: /dev/net/tun: %s\n", strerror(errno));
        exit(1);
    }
    return end;
}

/* Takes what has come; one in 1000 / lost is dropped, and so is what there is no room for. */
static void take(int from, struct queue *queue, double delay, uint32_t lost) {
    static uint32_t state = 12345;
    char data[LARGEST];
    ssize_t size;
    while ((size = read(from, data, sizeof data)) > 0) {
        state = state * 1664525 + 1013904223;
        struct packet *packet = &queue->packets[(queue->first + queue->count) % WAITING];
        if ((state >> 8) % 1000 < lost || queue->count == WAITING)
            continue;
        *packet = (struct packet){now() + delay, (size_t)size, malloc((size_t)size)};
        if (!packet->data)
            continue;
        memcpy(packet->data, data, (size_t)size);
        queue->count++;
    }
}

static void give(struct queue *queue) {
    while (queue->count > 0 && queue->packets[queue->first].due <= now()) {
        struct packet *packet = &queue->packets[queue->first];
        ssize_t written = write(queue->to, packet->data, packet->size);
        (void)written; /* a link may lose what it cannot deliver */
        free(packet->data);
        queue->first = (queue->first + 1) % WAITING;
        queue->count--;
    }
}

int main(int argc, char **argv) {
    static struct queue queues[2];
    if (argc != 6)
        return 2;
    double delay = atof(argv[4]) * 1e-3;
    uint32_t lost = (uint32_t)atoi(argv[5]);
    int ends[2] = {open_end(argv[1], argv[3]), open_end(argv[2], argv[3])};
    for (int i = 0; i < 2; i++)
        queues[i].to = ends[1 - i];
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd events[3] = {{.fd = ends[0], .events = POLLIN},
                                   {.fd = ends[1], .events = POLLIN},
                                   {.fd = STDIN_FILENO, .events = POLLIN}};
        poll(events, 3, queues[0].count || queues[1].count ? 1 : 1000);
        for (int i = 0; i < 2; i++) {
            take(ends[i], &queues[i], delay, lost);
            give(&queues[i]);
        }
        if (events[2].revents)
            return 0;
    }
}
