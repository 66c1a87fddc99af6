/*
 * Runs main -> reads -> read(2) of /dev/zero forever, mostly in the kernel. The system call is
 * inline, because the C library's wrapper has no frame pointer.
 */
#include <fcntl.h>
#include <sys/syscall.h>

static char buffer[1 << 16];
volatile long sink;

__attribute__((noinline)) void reads(int fd)
{
	volatile long result;
	long answer;
	__asm__ volatile("syscall"
	                 : "=a"(answer)
	                 : "a"((long)SYS_read), "D"((long)fd), "S"(buffer), "d"(sizeof(buffer))
	                 : "rcx", "r11", "memory");
	result = answer;
	sink += result;
	sink++;
}

int main(void)
{
	int fd = open("/dev/zero", O_RDONLY);
	for (;;)
		reads(fd);
}
