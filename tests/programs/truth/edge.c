/*
 * Runs on_edge -> hollow -> spin in the lowest bytes of a stack: the red zone would be in a page
 * that does not exist, and most of hollow's frame is in pages that do not exist either. Then it
 * ends, on the usual stack.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include "known.h"

/* on_edge(sp): calls hollow on the stack at sp. */
void on_edge(void *sp);
__asm__(".text\n"
        ".globl on_edge\n"
        ".type on_edge, @function\n"
        "on_edge:\n"
        "	.cfi_startproc\n"
        "	.cfi_undefined %rip\n" /* it is the root for an unwinder */
        "	push %rbx\n"
        "	mov %rsp, %rbx\n"
        "	mov %rdi, %rsp\n"
        "	call hollow\n"
        "	mov %rbx, %rsp\n"
        "	pop %rbx\n"
        "	ret\n"
        "	.cfi_endproc\n"
        ".size on_edge, . - on_edge\n");

NOINLINE void spin(void)
{
	for (int i = 0; i < 20000000; i++)
		sink += 1;
}

/* Has a frame of two pages and 24 bytes, return address included, and writes none of it. */
void hollow(void);
__asm__(".text\n"
        ".globl hollow\n"
        ".type hollow, @function\n"
        "hollow:\n"
        "	.cfi_startproc\n"
        "	sub $8208, %rsp\n	.cfi_adjust_cfa_offset 8208\n"
        "	call spin\n"
        "	add $8208, %rsp\n	.cfi_adjust_cfa_offset -8208\n"
        "	ret\n"
        "	.cfi_endproc\n"
        ".size hollow, . - hollow\n");

int main(void)
{
	char *pages = mmap(0, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(pages, 4096, PROT_NONE);
	on_edge(pages + 4096 + 8 + 8208 + 8);
}
