"""C programs with a stack of known depth, for the benchmarks."""

import subprocess


def source(depth):
    """Returns main -> f0 -> ... -> work, with frames of different sizes. The work takes so long that
    the calls on the way do not matter."""
    lines = [
        "#include <stdint.h>",
        "volatile uint64_t sink;",
        "__attribute__((noinline)) uint64_t work(uint64_t x) { for (int i = 0; i < 2000000; i++) x = x * 6364136223846793005u + 1442695040888963407u; return sink = x; }",
    ]
    callee = "work"
    for number in reversed(range(depth)):
        words = number * 7 % 13 + 1
        lines.append(
            f"__attribute__((noinline)) uint64_t f{number}(uint64_t x) {{ volatile uint64_t a[{words}]; a[x % {words}] = x; "
            f"uint64_t r = {callee}(x + {number}); return r + a[x % {words}]; }}"
        )
        callee = f"f{number}"
    lines.append(f"int main(void) {{ for (;;) sink = {callee}(sink); }}")
    return "\n".join(lines)


def compile(path, depth, frame_pointers):
    """Compiles a program: with frame pointers only, or with call frame information only."""
    with open(f"{path}.c", "w") as file:
        file.write(source(depth))
    by_fp = [
        "-fno-omit-frame-pointer",
        "-mno-omit-leaf-frame-pointer",
        "-fno-asynchronous-unwind-tables",
    ]
    flags = by_fp if frame_pointers else ["-fomit-frame-pointer"]
    subprocess.run(
        ["gcc", "-O2", "-fno-optimize-sibling-calls", *flags, f"{path}.c", "-o", path], check=True
    )
    return path
