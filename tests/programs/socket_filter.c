// Sends datagrams through a filter of a socket, as any user can attach one: the kernel compiles its
// 4,000 instructions, which take all the time.
#include <linux/filter.h>
#include <stdio.h>
#include <sys/socket.h>

int main(void)
{
	static struct sock_filter code[4000];
	int count = sizeof code / sizeof *code;
	code[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, 1);
	for (int i = 1; i < count - 1; i++)
		code[i] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 3);
	code[count - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog filter = { count, code };
	int sockets[2];
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets) ||
	    setsockopt(sockets[1], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter)) {
		perror("socket filter");
		return 1;
	}
	char datagram[8] = { 0 };
	for (;;)
		send(sockets[0], datagram, sizeof datagram, 0);
}
