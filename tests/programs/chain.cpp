// The chain main -> a -> b -> c -> spin, for ever, with names that need demangling.
#include <cstdint>

namespace chain {

volatile uint64_t sink;

struct Worker {
	__attribute__((noinline)) void spin()
	{
		volatile uint64_t step = 1;

		for (int i = 0; i < 20000000; i++) sink += step; // line 13
	}
};

template <typename T> __attribute__((noinline)) void c(T &worker)
{
	worker.spin(); // line 19
	sink++;
}

__attribute__((noinline)) void b()
{
	Worker worker;
	c(worker); // line 26
	sink++;
}

__attribute__((noinline)) void a()
{
	b(); // line 32
	sink++;
}

} // namespace chain

int main()
{
	for (;;)
		chain::a(); // line 41
}
