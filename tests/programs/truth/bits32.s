# 32-bit code that runs forever and needs no library.
	.globl _start
_start:
	call work
work:
	incl count
	jmp work
	.comm count, 4
