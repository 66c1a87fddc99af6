// Sends itself signals, which Go's own runtime handles in a program without C. One thread loops
// until it is preempted.
package main

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

var sink uint64

//go:noinline
func spins() {
	for {
		sink++
	}
}

//go:noinline
func raises(process, thread uintptr) {
	syscall.RawSyscall(syscall.SYS_TGKILL, process, thread, uintptr(syscall.SIGUSR1))
	sink++
}

func main() {
	runtime.LockOSThread()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			sink++
		}
	}()
	for i := 0; i < 4; i++ {
		go spins()
	}
	process, thread := uintptr(os.Getpid()), uintptr(syscall.Gettid())
	for {
		raises(process, thread)
	}
}
