//! The texts below the options in the help of each command.

pub(super) const EXAMPLES: &str = "\
Examples:
  everytick record                         profile the machine until Ctrl-C
  everytick record -d 10 -o cpu.svg        ten seconds, as a flamegraph only
  everytick record -p 1234,5678            two processes
  everytick record --cgroup /kubepods      all pods of this node
  everytick record -F 999 -- make -j8      a command and its descendants
  everytick record -a -- sleep 10          the machine while a command runs
  everytick doctor                         check what this host supports";

pub(super) const AGENT_EXAMPLES: &str = "\
Flags override the environment, which overrides the configuration file; docs/configuration.md
lists all keys. Without any of them, the agent samples at 19 Hz and stores profiles in
/var/lib/everytick/store.

Examples:
  everytick agent                              profile this machine
  everytick agent --config everytick.toml --check-config
  everytick agent --export -5m..now -o cpu.svg the last five minutes as a flamegraph";

pub(super) const VERIFY_EXAMPLES: &str = "\
perf copies registers and 64 KiB of stack at each tick; framehop unwinds that copy with the call
frame information of the same files. framehop restores ip, sp and fp only, and silently falls back
to frame pointers where call frame information does not help: a difference means that one of the
two is wrong. `readelf --debug-dump=frames-interp FILE` at the address shown tells which.

Examples:
  everytick verify -d 10                   everything that runs on this machine
  everytick verify -o verify.json -- make  a command and its descendants";

pub(super) const RECORD_EXAMPLES: &str = "\
Filters of one kind are alternatives (-p 1,2: either process); filters of different kinds must all
match (-p 1 --comm x: both). -p, -t and COMMAND are one kind. Filters apply in the kernel: what they
leave out has almost no overhead. The exit status is that of COMMAND, 0 if -d ended it; 3 if that is
0 and more than 1 % of the samples are lost.

Without root or capabilities, -p, -t and COMMAND record own processes, and only user code unless
kernel.perf_event_paranoid is 1 or less.

A stack that is not complete starts with [cut: reason]; in pprof it has a label `cut`.
Every tick of the sampling clock is accounted for at the end and in the pprof comments.

Examples:
  everytick record -d 30 -o before.pb.gz && go tool pprof -http : before.pb.gz
  everytick record --comm postgres --by thread -o postgres.svg
  everytick record -F 999 -o build.folded -- cargo build
  everytick record -t 4321 -C 0-3 -d 1m30s";

pub(super) const DEBUGINFO_EXAMPLES: &str = "\
Debug info is looked for as while profiling: by build ID below /usr/lib/debug/.build-id, and by the
name in the file (.gnu_debuglink) beside it, in .debug and below /usr/lib/debug; of a process also
below its own root.

Examples:
  everytick debuginfo /usr/bin/git         a file
  everytick debuginfo 1234                 all files that a process executes
  everytick debuginfo everytick.pb.gz      all files of a profile";

pub(super) const RUNTIMES_EXAMPLES: &str = "\
An interpreter is recognized by what its file exports, whatever its name. The functions that it runs
have frames of their own if its version, its build and the C library of the process are known.

Examples:
  everytick runtimes                       all processes
  everytick runtimes 1234                  one";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  everytick completions bash | sudo tee /etc/bash_completion.d/everytick
  everytick completions zsh > ~/.zfunc/_everytick
  everytick completions fish > ~/.config/fish/completions/everytick.fish";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  everytick man | man -l -
  sudo everytick man /usr/local/share/man/man1";
