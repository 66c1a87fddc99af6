// Two fibers of boost.context, which work and switch back to the thread that resumes them.
#include <boost/context/fiber.hpp>
#include <thread>

namespace context = boost::context;
volatile unsigned sink;

__attribute__((noinline)) unsigned leaf(unsigned count)
{
	unsigned sum = 0;
	for (unsigned step = 0; step < count; step++)
		sum += sink ^ step;
	return sum;
}

__attribute__((noinline)) unsigned middle(unsigned depth)
{
	return depth ? middle(depth - 1) + leaf(100) : leaf(2000);
}

void run()
{
	auto body = [](context::fiber &&caller) {
		for (;;) {
			sink = sink + middle(9);
			caller = std::move(caller).resume();
		}
		return std::move(caller);
	};
	context::fiber first(body), second(body);
	for (;;) {
		first = std::move(first).resume();
		second = std::move(second).resume();
	}
}

int main()
{
	std::thread other(run);
	run();
}
