#!/bin/busybox sh
# The first process of the guest that tests/kernels.rs boots: runs the scripts of the tests, which
# print their answers to the serial console. An answer starts with a line `== NAME` and ends with
# `exit STATUS`.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin 2>/dev/null # setpriv is installed already and has more options
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 1 >/proc/sys/kernel/printk # the kernel does not log to the console
ifconfig lo up

answer() { # NAME COMMAND...
	echo "== $1"
	shift
	"$@" 2>&1
	echo "exit $?"
}
wait_for() { # TEXT FILE: waits until the file contains the text
	for turn in $(seq 600); do
		grep -q "$1" "$2" 2>/dev/null && return
		sleep 0.2
	done
}
wait_for_cpu_time() { # PID SECONDS: waits until the process has taken as much CPU time
	for turn in $(seq 600); do
		time=$(cut -d ' ' -f 14 "/proc/$1/stat" 2>/dev/null)
		[ "${time:-0}" -ge $(($2 * 100)) ] && return
		sleep 0.2
	done
}

. /stacks.sh
. /user.sh
. /hotplug.sh
poweroff -f
