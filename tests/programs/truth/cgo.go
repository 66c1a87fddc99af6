// Runs main.main -> main.a -> main.b -> main.leaf, or by cgo the C functions outer -> spin.
package main

/*
#include <stdint.h>
static volatile uint64_t sink;

__attribute__((noinline)) static void spin(void)
{
	for (int i = 0; i < 100000; i++)
		sink += 1;
}

__attribute__((noinline)) static void outer(void)
{
	spin();
	sink += 1;
}
*/
import "C"

var sink uint64

//go:noinline
func leaf() {
	for i := uint64(0); i < 100000; i++ {
		sink += i
	}
}

//go:noinline
func b() {
	leaf()
	C.outer()
	sink++
}

//go:noinline
func a() {
	b()
	sink++
}

func main() {
	for {
		a()
	}
}
