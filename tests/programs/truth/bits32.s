# A program of 32-bit code that works for ever and needs no library.
	.globl _start
_start:
	call work
work:
	incl count
	jmp work
	.comm count, 4
