/*
 * Spins for ever in a function whose call frames say that the return address is a word that is
 * none: it leads to memory that is not mapped.
 */
	.text
	.globl _start
	.type _start, @function
_start:
	.cfi_startproc
	.cfi_undefined %rip
	call lead_astray
	hlt
	.cfi_endproc
	.size _start, . - _start

	.globl lead_astray
	.type lead_astray, @function
lead_astray:
	.cfi_startproc
	movabs $0x123456789000, %rax
	push %rax
	.cfi_def_cfa_offset 8
again:
	pause
	jmp again
	.cfi_endproc
	.size lead_astray, . - lead_astray

	.section .note.GNU-stack, "", @progbits
