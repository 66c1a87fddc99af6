/*
 * Runs main -> calls -> code generated at run time, with a frame pointer -> called -> spin. No
 * unwinder can leave that code by frame pointer at its first and last instructions, so the program
 * is rarely there.
 */
#include <string.h>
#include <sys/mman.h>
#include "known.h"

static void (*made)(void (*)(void));

NOINLINE void spin(void)
{
	for (int i = 0; i < 5000000; i++)
		sink += 1;
}

NOINLINE void called(void)
{
	spin();
	sink++;
}

NOINLINE void calls(void)
{
	made(called);
	sink++;
}

int main(void)
{
	/* push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret */
	static const uint8_t code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
	void *memory = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memcpy(memory, code, sizeof(code));
	mprotect(memory, 4096, PROT_READ | PROT_EXEC);
	made = (void (*)(void (*)(void)))memory;
	for (;;)
		calls();
}
