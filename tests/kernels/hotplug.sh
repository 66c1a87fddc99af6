# Run by init.sh: CPU 1 goes offline and comes online while everytick profiles.

cpu=/sys/devices/system/cpu/cpu1/online
# Each time offline is noted, by the clock of the guest: NAME BEGIN END.
offline() {
	read -r went _ </proc/uptime
	echo 0 >$cpu
}
online() { # NAME
	echo 1 >$cpu
	read -r came _ </proc/uptime
	echo "$1 $went $came" >>/tmp/offline
}
turns() { # NAME COUNT SECONDS_OFFLINE SECONDS_ONLINE
	for turn in $(seq "$2"); do
		offline && sleep "$3"
		online "$1" && sleep "$4"
	done
}
spin_on_cpu_1() { # NAME: runs the test program under this name
	cp /bin/chain "/bin/$1"
	taskset 2 "$1" &
	spinning=$!
}
work_in_kernel_on_cpu_1() { # NAME: runs a load of system calls as busybox_NAME
	cp /bin/busybox "/bin/busybox_$1"
	taskset 2 "busybox_$1" dd if=/dev/zero of=/dev/null bs=1M 2>/dev/null &
	spinning=$!
}
record() { # NAME
	# An emulated CPU takes long to read the tables of everytick itself, so it is filtered out.
	everytick record -v -F 199 --tick-limit 1000000 --comm "$1_chain" -o "/tmp/$1.folded" \
		2>"/tmp/$1.txt" &
	recording=$!
	wait_for profiling "/tmp/$1.txt"
}
recorded() { # NAME: ends the recording once the program has taken some CPU time
	wait_for_cpu_time $spinning 4
	kill $recording
	wait $recording
	kill $spinning
	answer "record_$1" cat "/tmp/$1.txt"
	answer "folded_$1" cat "/tmp/$1.folded"
}

# A recording that begins while the CPU is offline.
echo 0 >$cpu
record late
read -r went _ </proc/uptime
sleep 2
online late
spin_on_cpu_1 late_chain
recorded late

# A recording during which the CPU comes and goes.
record turns
turns turns 3 0.5 0.5
spin_on_cpu_1 turns_chain
recorded turns

# A second unwinder on the same ticks: perf's own rings of records come and go too. A slow machine
# has the table of the program once the program runs on the CPU that came back.
cp /bin/chain /bin/verify_chain
everytick verify -F 99 -o /tmp/verify.json -- sh -c "
	timeout 5 verify_chain
	for turn in 1 2; do
		echo 0 >$cpu && sleep 0.5
		echo 1 >$cpu && sleep 0.5
	done
	timeout 10 taskset 2 verify_chain; true" 2>/tmp/verify.txt
answer verify cat /tmp/verify.json

# An agent: slow turns, then fast ones, every 200 ms for ten seconds.
cat >/tmp/agent.toml <<-END
	[agent]
	listen = "127.0.0.1:7171"
	cache_dir = "off"
	window = "1s"
	frequency = 99
	max_cpu = 100
	user_stacks = false # an emulated CPU takes long to read tables: samples are those in the kernel
	[store]
	directory = "/tmp/store"
	[spool]
	directory = "/tmp/spool"
END
everytick agent --config /tmp/agent.toml 2>/tmp/agent.log &
agent=$!
metrics() {
	wget -q -O - http://127.0.0.1:7171/metrics
}
accepted() {
	metrics | sed -n 's/^everytick_windows_accepted_total //p'
}
wait_for_windows() { # COUNT: waits until the spool has accepted so many more windows
	least=$(($(accepted) + $1))
	for turn in $(seq 500); do
		[ "$(accepted)" -ge $least ] && return
		sleep 0.3
	done
}
wait_for "profiling the machine" /tmp/agent.log
turns slow 3 1 1
work_in_kernel_on_cpu_1 slow
wait_for_windows 3 # the program is in two at least
kill $spinning
answer metrics_after_slow_turns metrics
turns fast 50 0.1 0.1
work_in_kernel_on_cpu_1 fast
wait_for_windows 3
kill $spinning
answer metrics_after_fast_turns metrics
kill $agent
wait $agent
answer agent cat /tmp/agent.log
answer agent_export everytick agent --config /tmp/agent.toml --export -10m..now -o /tmp/agent.folded
answer folded_agent cat /tmp/agent.folded
answer offline cat /tmp/offline
