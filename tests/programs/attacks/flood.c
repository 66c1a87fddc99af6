/*
 * Requests pages of an HTTP server as fast as it answers, from several connections at once, or holds
 * connections open and sends one byte a second.
 *
 *     flood PORT requests|slow CONNECTIONS
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char request[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

static int connect_to(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct timeval timeout = { .tv_sec = 1 };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Sends requests until the server closes the connection. */
static void flood(int fd)
{
	static char answer[1 << 16];

	while (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0 &&
	       recv(fd, answer, sizeof(answer), 0) > 0)
		;
}

static void trickle(int fd)
{
	for (size_t i = 0; send(fd, request + i % (sizeof(request) - 3), 1, MSG_NOSIGNAL) == 1; i++)
		sleep(1);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	int port = atoi(argv[1]), is_slow = !strcmp(argv[2], "slow");
	for (int i = atoi(argv[3]); i > 1 && fork(); i--)
		;
	for (;;) {
		int fd = connect_to(port);
		if (fd < 0) {
			usleep(10000);
			continue;
		}
		if (is_slow)
			trickle(fd);
		else
			flood(fd);
		close(fd);
	}
}
