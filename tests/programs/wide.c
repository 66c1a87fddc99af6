/*
 * Runs main -> a -> b -> c -> spin, which lie far apart: functions that are never called fill the
 * space between them, so that the unwind table is large and each function is in another block of
 * it. NUMBER is part of every name.
 */
#define NAME_(name, number) name##_##number
#define NAME(name, number) NAME_(name, number)
#define N(name) NAME(name, NUMBER)

#define FILLERS                        \
	asm(".text\n"                  \
	    ".rept 3000\n"             \
	    ".balign 128\n"            \
	    ".cfi_startproc\n"         \
	    "push %rbx\n"              \
	    ".cfi_def_cfa_offset 16\n" \
	    "sub $32, %rsp\n"          \
	    ".cfi_def_cfa_offset 48\n" \
	    "add $32, %rsp\n"          \
	    ".cfi_def_cfa_offset 16\n" \
	    "pop %rbx\n"               \
	    ".cfi_def_cfa_offset 8\n"  \
	    "ret\n"                    \
	    ".cfi_endproc\n"           \
	    ".endr\n")

volatile unsigned long sink;

#define LINK(name, callee, words)                                        \
	__attribute__((noinline)) unsigned long N(name)(unsigned long x) \
	{                                                                \
		volatile unsigned long frame[words];                     \
		frame[x % words] = x;                                    \
		return N(callee)(x + 1) + frame[x % words];              \
	}

__attribute__((noinline)) unsigned long N(spin)(unsigned long x)
{
	/* Without NUMBER the linker would compute the same build id for all programs. */
	for (int i = 0; i < 20000; i++)
		x = x * 6364136223846793005UL + NUMBER;
	return sink = x;
}
FILLERS;
LINK(c, spin, 3)
FILLERS;
LINK(b, c, 7)
FILLERS;
LINK(a, b, 1 + NUMBER)
FILLERS;

int main(void)
{
	for (;;)
		sink = N(a)(sink) + 1;
}
