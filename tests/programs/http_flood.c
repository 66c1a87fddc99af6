// Requests a page of 127.0.0.1 over and over from several processes, until it is killed.
//
// Arguments: port, path, number of processes, and how: `wait` reads each answer to its end, `drop`
// closes the connection at once, `silent` opens connections and sends a byte of a request head a
// second on each.
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int dial(int port)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void flood(int port, const char *path, const char *how)
{
	char request[256], answer[65536];
	int silent[500], open = 0;
	int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path);
	for (;;) {
		if (!strcmp(how, "silent")) {
			for (; open < 500; open++)
				silent[open] = dial(port);
			for (int i = 0; i < open; i++) {
				if (silent[i] < 0 || send(silent[i], "G", 1, MSG_NOSIGNAL) < 1) {
					close(silent[i]);
					silent[i] = dial(port);
				}
			}
			sleep(1);
			continue;
		}
		int fd = dial(port);
		if (fd < 0)
			continue;
		if (send(fd, request, length, MSG_NOSIGNAL) == length && !strcmp(how, "wait"))
			while (read(fd, answer, sizeof answer) > 0)
				;
		close(fd);
	}
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	for (int i = 0; i < atoi(argv[3]); i++) {
		pid_t parent = getpid();
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() == parent)
				flood(atoi(argv[1]), argv[2], argv[4]);
			return 0;
		}
	}
	pause();
}
