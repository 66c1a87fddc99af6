#!/bin/busybox sh
# The first process of the guest that tests/kernels.rs boots: profiles test programs and prints the
# results to the serial console. An answer starts with a line `== NAME` and ends with `exit STATUS`.
#
# The profiled programs share one CPU, so that the other is free for everytick. An emulated CPU is
# so slow that the time limit must not cut stacks.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin 2>/dev/null # setpriv is installed already and has more options
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 1 >/proc/sys/kernel/printk # the kernel does not log to the console

answer() { # NAME COMMAND...
	echo "== $1"
	shift
	"$@" 2>&1
	echo "exit $?"
}

limited() { # KIB: runs doctor with this RLIMIT_MEMLOCK, and without the right to raise it
	ulimit -l "$1"
	/bin/setpriv --bounding-set -sys_resource everytick doctor
}

record="everytick record -q -F 199 --tick-limit 1000000"

answer doctor everytick doctor
(answer limited limited 65536)
(answer too_limited limited 64)

pids=
for program in chain "deep 300" "deeper 900" syscalls; do
	taskset 1 $program &
	pids="$pids -p $!"
done
answer record $record -d 10 $pids -o /tmp/all.folded
answer folded cat /tmp/all.folded
killall chain deep deeper syscalls

answer record_with_filters $record --comm chain --cgroup / -o /tmp/some.folded -- \
	sh -c "timeout 2 taskset 1 chain; true"
answer folded_with_filters cat /tmp/some.folded

poweroff -f
