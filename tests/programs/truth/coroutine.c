/*
 * Runs main -> drives, which switches to a separate stack for body -> work -> spin, and back, by a
 * few lines of assembly with complete CFI. Nothing calls start_coroutine: it is the root.
 */
#include <stdlib.h>
#include "known.h"

/* switch_stack(save, load): saves sp in *save and loads it from load. */
void switch_stack(void **save, void *load);
void start_coroutine(void);
__asm__(".text\n"
        ".globl switch_stack\n"
        ".type switch_stack, @function\n"
        "switch_stack:\n"
        "	.cfi_startproc\n"
        "	push %rbp\n	.cfi_adjust_cfa_offset 8\n	.cfi_rel_offset %rbp, 0\n"
        "	push %rbx\n	.cfi_adjust_cfa_offset 8\n	.cfi_rel_offset %rbx, 0\n"
        "	push %r12\n	.cfi_adjust_cfa_offset 8\n"
        "	push %r13\n	.cfi_adjust_cfa_offset 8\n"
        "	push %r14\n	.cfi_adjust_cfa_offset 8\n"
        "	push %r15\n	.cfi_adjust_cfa_offset 8\n"
        "	mov %rsp, (%rdi)\n"
        "	mov %rsi, %rsp\n"
        "	pop %r15\n	.cfi_adjust_cfa_offset -8\n"
        "	pop %r14\n	.cfi_adjust_cfa_offset -8\n"
        "	pop %r13\n	.cfi_adjust_cfa_offset -8\n"
        "	pop %r12\n	.cfi_adjust_cfa_offset -8\n"
        "	pop %rbx\n	.cfi_adjust_cfa_offset -8\n	.cfi_restore %rbx\n"
        "	pop %rbp\n	.cfi_adjust_cfa_offset -8\n	.cfi_restore %rbp\n"
        "	ret\n"
        "	.cfi_endproc\n"
        ".size switch_stack, . - switch_stack\n"
        ".globl start_coroutine\n"
        ".type start_coroutine, @function\n"
        "	.cfi_startproc\n"
        "	.cfi_undefined %rip\n"
        "	nop\n" /* a return address is looked up one byte before */
        "start_coroutine:\n"
        "	call body\n"
        "	hlt\n"
        "	.cfi_endproc\n"
        ".size start_coroutine, . - start_coroutine\n");

static void *outside, *inside;

NOINLINE void spin(void)
{
	for (int i = 0; i < 1000; i++)
		sink += 1;
}

NOINLINE void work(void)
{
	spin();
	sink++;
}

NOINLINE void body(void)
{
	for (;;) {
		work();
		switch_stack(&inside, outside);
	}
}

NOINLINE void drives(void)
{
	switch_stack(&outside, inside);
	sink++;
}

int main(void)
{
	void **top = (void **)((char *)aligned_alloc(64, 65536) + 65536);

	top[-2] = start_coroutine; /* below it are six saved registers */
	inside = top - 8;
	for (;;)
		drives();
}
