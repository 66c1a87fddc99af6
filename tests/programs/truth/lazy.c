/*
 * Runs main -> calls -> functions of a library, through the procedure linkage table. Every hundred
 * rounds it unbinds them, so that the dynamic linker resolves them again.
 */
#include <link.h>
#include <string.h>
#include "known.h"

/* clang-format off */
#define FUNCTIONS(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7)
#define DECLARE(number) void library_##number(void);
#define CALL(number) library_##number();
FUNCTIONS(DECLARE)
/* clang-format on */

static uintptr_t *slots[64], unbound[64];
static int count;

/* Records the GOT slots of the functions and their unbound values: the second half of a stub. */
NOINLINE void record_slots(void)
{
	const ElfW(Rela) *relocations = 0;
	uintptr_t base = 0;
	size_t bytes = 0;

	for (const ElfW(Dyn) *entry = _DYNAMIC; entry->d_tag; entry++) {
		if (entry->d_tag == DT_JMPREL)
			relocations = (void *)entry->d_un.d_ptr;
		if (entry->d_tag == DT_PLTRELSZ)
			bytes = entry->d_un.d_val;
	}
	base = _r_debug.r_map->l_addr;
	for (size_t i = 0; i < bytes / sizeof(*relocations) && count < 64; i++) {
		slots[count] = (uintptr_t *)(base + relocations[i].r_offset);
		unbound[count] = *slots[count];
		count++;
	}
}

NOINLINE void forget(void)
{
	for (int i = 0; i < count; i++)
		*slots[i] = unbound[i];
}

NOINLINE void calls(void)
{
	for (int i = 0; i < 100; i++) {
		FUNCTIONS(CALL)
	}
	sink++;
}

int main(void)
{
	record_slots();
	for (;;) {
		calls();
		forget();
	}
}
