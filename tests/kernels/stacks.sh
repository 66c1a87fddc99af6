# Run by init.sh: profiles test programs whose stacks are known.
#
# The profiled programs share one CPU, so that the other is free for everytick. An emulated CPU is
# so slow that the time limit must not cut stacks.

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
