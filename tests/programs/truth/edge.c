/* on_edge -> spin, at the lowest bytes of a stack: its red zone would lie in a page that is not there. Then, on the
 * usual stack, it ends. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include "known.h"

/* on_edge(sp): calls spin on that stack. */
void on_edge(void *sp);
__asm__(".text\n"
	".globl on_edge\n"
	".type on_edge, @function\n"
	"on_edge:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined %rip\n" /* as far as others can see */
	"	push %rbx\n"
	"	mov %rsp, %rbx\n"
	"	mov %rdi, %rsp\n"
	"	call spin\n"
	"	mov %rbx, %rsp\n"
	"	pop %rbx\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size on_edge, . - on_edge\n");

KEPT void spin(void)
{
	for (int i = 0; i < 20000000; i++)
		sink += 1;
}

int main(void)
{
	char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(pages, 4096, PROT_NONE);
	on_edge(pages + 4096 + 8);
}
