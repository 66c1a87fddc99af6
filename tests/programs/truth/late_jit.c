/*
 * Runs main -> calls -> code generated a moment ago -> code generated at the start -> called ->
 * spin, as with a JIT compiler: the frame pointer of the older code leads into memory that was not
 * mapped before.
 */
#include <string.h>
#include <sys/mman.h>
#include "known.h"

#define CALLS_OF_EACH 400

typedef void (*made_code)(void (*)(void), void (*)(void (*)(void)));

static made_code newer;
static void (*older)(void (*)(void));

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
	newer(called, older);
	sink++;
}

static void *make(const uint8_t *code, size_t size)
{
	void *memory = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memcpy(memory, code, size);
	mprotect(memory, 4096, PROT_READ | PROT_EXEC);
	return memory;
}

int main(void)
{
	/* push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret */
	static const uint8_t calls_first[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
	/* the same with call *%rsi, which hands %rdi on */
	static const uint8_t calls_second[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd6, 0x5d, 0xc3 };

	older = (void (*)(void (*)(void)))make(calls_first, sizeof(calls_first));
	for (;;) {
		newer = (made_code)make(calls_second, sizeof(calls_second));
		for (int i = 0; i < CALLS_OF_EACH; i++)
			calls();
	}
}
