#!/usr/bin/env bash
# Builds the seeds of the corpus: small ELF files with every kind of call-frame information.
# Files that a fuzzer found are stored beside them, named by what is special about them.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/some.c" <<'C'
static volatile long sink;
__attribute__((noinline)) long leaf(long x) { return sink = x * 3; }
__attribute__((noinline)) long deep(long x) { volatile char a[x & 63]; a[0] = x; return leaf(a[0]) + (x ? deep(x - 1) : 0); }
__attribute__((noinline)) long aligned(long x) { volatile long a[4] __attribute__((aligned(64))); a[0] = x; volatile char b[x & 63]; b[0] = 1; return deep(a[0]) + b[0]; }
void _start(void) { for (;;) aligned(sink); }
C
cat >"$work/odd.s" <<'S'
	.text
	.globl odd
odd:	.cfi_startproc
	.cfi_personality 0x9b, handler
	.cfi_lsda 0x1b, lsda
	.cfi_signal_frame
	.cfi_escape 0x0f, 0x0b, 0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22
	nop
	.cfi_remember_state
	.cfi_def_cfa 10, 0
	nop
	.cfi_restore_state
	.cfi_escape 0x10, 0x06, 0x02, 0x76, 0x00
	.cfi_val_offset 7, 0
	.cfi_undefined 16
	.cfi_window_save
	nop
	.cfi_endproc
	mov $15, %rax
	syscall
	.section .rodata
lsda:	.long 0
	.section .data
handler: .quad 0
	.section .note.GNU-stack, "", @progbits
S
bare=(-nostdlib -static -Wl,--build-id=none -Wl,-z,noseparate-code -Wl,-z,max-page-size=64)
gcc -O2 "${bare[@]}" -s -Wl,--eh-frame-hdr "$work/some.c" -o elf/eh_frame
gcc -O2 "${bare[@]}" -s -Wl,--no-eh-frame-hdr "$work/some.c" "$work/odd.s" -o elf/odd
for i in $(seq 40); do echo "long more$i(long x) { return deep(x + $i) + leaf(x); }"; done >>"$work/some.c"
gcc -O2 "${bare[@]}" -g -gz=zlib -fno-asynchronous-unwind-tables "$work/some.c" -o "$work/debug"
objcopy --remove-section=.debug_info --remove-section=.debug_line --remove-section=.debug_str --remove-section=.debug_line_str \
	--remove-section=.debug_abbrev --remove-section=.debug_aranges --remove-section=.debug_rnglists --strip-symbol=x "$work/debug" elf/debug_frame_compressed

# Without section headers: call frames are found by PT_GNU_EH_FRAME alone.
python3 - elf/eh_frame elf/no_section_headers <<'P'
import struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
at = struct.unpack_from("<Q", data, 40)[0]
struct.pack_into("<Q", data, 40, 0)
struct.pack_into("<HHH", data, 58, 0, 0, 0)
open(sys.argv[2], "wb").write(data[:at])
P

# Go's function table: twenty functions that push fp and move sp, a stack switch, two roots, a call
# that a signal handler makes, the return from a signal, and a function of another language. The
# module data says where the text is.
python3 - "$work" <<'P'
import struct, sys
def varint(n):
    out = b""
    while n >= 128: out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
names, dist, records, entries = b"\0", b"\0", b"", b""
made = [("main.f%d" % i, 0) for i in range(20)] + [
    ("runtime.asmcgocall", 2), ("runtime.goexit", 1), ("runtime.mcall", 2),
    ("runtime.asyncPreempt", 0),
    ("runtime.sigreturn__sigaction", 0), ("written_in_c", 0)]
for i, (name, flags) in enumerate(made):
    has_distances = name != "written_in_c"
    entries += struct.pack("<II", 64 * i, 8 * len(made) + 4 + len(records))
    words = [64 * i, len(names), 0, 0, len(dist) * has_distances, 0, 0, 0, 0, 0]
    records += struct.pack("<10I4B", *words, 0, flags, 0, 0)
    names += name.encode() + b"\0"
    value = -1
    for length, distance in [(1, 0), (7, 8), (54, 32), (2, 0)]:
        change = distance - value; value = distance
        dist += varint((change << 1) ^ (change >> 31) & 0xffffffff if change >= 0 else ~(change << 1) & 0xffffffff) + varint(length)
    dist += b"\0"
entries += struct.pack("<I", 64 * len(made))
head = 8 + 8 * 8
table = struct.pack("<IBBBB8Q", 0xfffffff1, 0, 0, 1, 8, len(made), 0, 0, head, 0, 0, head + len(names), head + len(names) + len(dist)) + names + dist + entries + records
open(f"{sys.argv[1]}/table", "wb").write(table)
for name, flags in [(".gopclntab", "a"), (".data.rel.ro.gopclntab", "aw")]:
    open(f"{sys.argv[1]}/go{name}.s", "w").write(f"""\t.text
\t.balign 64
\t.globl _start
_start:
\t.rept {len(made)}
\t.balign 64
\tpush %rbp
\tmov %rsp, %rbp
\tsub $24, %rsp
\tmov 56(%rbx), %rsp
\t.endr
\t.balign 64
end:
\t.section {name}, "{flags}"
table:
\t.incbin "{sys.argv[1]}/table"
\t.section .go.buildinfo, "aw"
\t.quad 0
\t.section .noptrdata, "aw"
\t.quad 0, table, table + {head}
\t.fill 18, 8, 0
\t.quad _start, end, _start, end
""")
P
gcc "${bare[@]}" -s "$work/go.gopclntab.s" -o elf/go
# As linkers up to Go 1.25 leave it in position-independent files: in a section of others.
gcc "${bare[@]}" -static-pie -s "$work/go.data.rel.ro.gopclntab.s" -o elf/go_merged

ls -l elf
