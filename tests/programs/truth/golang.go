// Goroutines and threads whose stacks are known: in Go, in C, in calls back from C, in a thread of
// C, on the scheduler's stack, and behind a recovered fault.
package main

/*
#include <pthread.h>
#include <stdint.h>
#define NOINLINE __attribute__((noipa))
static volatile uint64_t sink;
extern void goCallback(void);
extern void goFromThread(void);

NOINLINE static void spin(void)
{
	for (int i = 0; i < 100000; i++)
		sink += 1;
}

NOINLINE static void outer(void)
{
	spin();
	sink += 1;
}

NOINLINE static void c_calls_back(void)
{
	goCallback();
	sink += 1;
}

NOINLINE static void *c_thread(void *argument)
{
	for (;;) {
		goFromThread();
		sink += 1;
	}
	return argument;
}

static void start_thread(void)
{
	pthread_t thread;
	pthread_create(&thread, 0, c_thread, 0);
}
*/
import "C"

import "runtime"

var sink uint64

//go:noinline
func leaf() {
	for i := uint64(0); i < 100000; i++ {
		sink += i
	}
}

//go:noinline
func middle() {
	leaf()
	sink++
}

//go:noinline
func inGo() {
	for {
		middle()
	}
}

//go:noinline
func inC() {
	for {
		C.outer()
	}
}

//export goCallback
func goCallback() {
	middle()
	sink++
}

//go:noinline
func callsBack() {
	for {
		C.c_calls_back()
	}
}

//export goFromThread
func goFromThread() {
	middle()
	sink++
}

//go:noinline
func faults(at *uint64) {
	*at = 1
}

// The handler of the fault has sigpanic called, as if by the first instruction of faults.
//
//go:noinline
func recovers() {
	defer func() {
		recover()
		leaf()
	}()
	faults(nil)
}

//go:noinline
func panics() {
	for {
		recovers()
	}
}

// Reads the statistics on the stack of the scheduler.
//
//go:noinline
func switches() {
	var statistics runtime.MemStats
	for {
		runtime.ReadMemStats(&statistics)
		leaf()
	}
}

//go:noinline
func grows(depth int) uint64 {
	var frame [16]uint64
	frame[depth%16] = uint64(depth)
	if depth == 0 {
		leaf()
		return 0
	}
	return grows(depth-1) + frame[3]
}

// Starts goroutines whose stacks have to grow.
//
//go:noinline
func startsGrowing() {
	done := make(chan uint64)
	for {
		go func() { done <- grows(100) }()
		sink += <-done
	}
}

// Start runs everything. A library or plugin is started by it.
//
//export Start
func Start() {
	C.start_thread()
	go inGo()
	go inC()
	go callsBack()
	go panics()
	go switches()
	go startsGrowing()
	select {}
}

func main() {
	Start()
}
