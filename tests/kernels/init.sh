#!/bin/busybox sh
# The first process of the guest that tests/kernels.rs boots: profiles the programs there and prints what
# came of it to the serial console. Each answer follows a line `== NAME`, and `exit STATUS` ends it.
#
# What is profiled shares one CPU, so that the other is free for everytick. An emulated CPU is so slow that
# it must not cut stacks for the time they take.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin 2>/dev/null # setpriv is there already, and can more
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 1 >/proc/sys/kernel/printk # the console is ours

answer() { # NAME COMMAND...
	echo "== $1"
	shift
	"$@" 2>&1
	echo "exit $?"
}

limited() { # KIB: doctor with so much memory that it may lock, and without the right to raise that
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

answer record_with_filters $record --comm chain --cgroup / -o /tmp/some.folded -- sh -c "timeout 2 taskset 1 chain; true"
answer folded_with_filters cat /tmp/some.folded

# An agent, and a CPU that goes and comes back, on which then the program runs.
cat >/tmp/agent.toml <<-END
	[agent]
	listen = "off"
	cache_dir = "off"
	window = "2s"
	frequency = 99
	max_cpu = 100
	[store]
	directory = "/tmp/store"
	[spool]
	directory = "/tmp/spool"
END
everytick agent --config /tmp/agent.toml 2>/tmp/agent.log &
agent=$!
cpu=/sys/devices/system/cpu/cpu1/online
waits() { # TEXT: until the agent's log has it
	for second in $(seq 60); do
		grep -q "$1" /tmp/agent.log && return
		sleep 1
	done
}
waits "profiling the machine"
sleep 3
echo 0 >$cpu
sleep 1
echo 1 >$cpu
waits "restarting sampling"
taskset 2 chain &
sleep 15
kill $agent
wait $agent
answer agent cat /tmp/agent.log
answer agent_export everytick agent --config /tmp/agent.toml --export -2m..now -o /tmp/agent.folded
answer folded_agent cat /tmp/agent.folded

poweroff -f
