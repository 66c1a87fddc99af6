/*
 * Runs main -> work -> spin with sp so near the start of its page that the red zone begins in the
 * page below, which was never touched. A larger UNTOUCHED leaves such pages above sp too.
 */
#include <alloca.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#define STACK_BYTES (1 << 20)
#ifndef UNTOUCHED
#define UNTOUCHED 4096
#endif

__attribute__((noinline)) void spin(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	/* Skips UNTOUCHED bytes and the rest of the page below them, except for 32 bytes. */
	volatile char *top = alloca(UNTOUCHED + ((here - UNTOUCHED) & 4095) - 64);
	uint64_t left = 3000000000;

	*top = 1;
	__asm__ volatile("movq $0, (%%rsp)\n1: dec %0\njnz 1b" : "+r"(left) : : "memory");
	*top = 2;
}

void *work(void *unused)
{
	spin();
	return unused;
}

int main(void)
{
	pthread_t thread;
	pthread_attr_t attributes;
	void *stack =
		mmap(0, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	pthread_attr_init(&attributes);
	pthread_attr_setstack(&attributes, stack, STACK_BYTES);
	pthread_create(&thread, &attributes, work, 0);
	return pthread_join(thread, 0);
}
