// Runs main -> a -> b -> c -> spin forever, with names that need demangling.
// The tests know the marked lines.
#include <cstdint>

namespace chain
{

volatile uint64_t sink;

struct Worker {
	__attribute__((noinline)) void spin()
	{
		volatile uint64_t step = 1;
		// clang-format off
		for (int i = 0; i < 20000000; i++) sink += step; // line 15
		// clang-format on
	}
};

template <typename T> __attribute__((noinline)) void c(T &worker)
{
	worker.spin(); // line 22
	sink++;
}

__attribute__((noinline)) void b()
{
	Worker worker;
	c(worker); // line 29
	sink++;
}

__attribute__((noinline)) void a()
{
	b(); // line 35
	sink++;
}

} // namespace chain

int main()
{
	for (;;)
		chain::a(); // line 44
}
