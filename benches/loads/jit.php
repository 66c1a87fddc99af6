<?php
// Calls and loops that the tracing JIT compiles, and functions of the runtime.
function leaf($count) {
    $sum = 0;
    for ($step = 0; $step < $count; $step++) $sum = ($sum * 31 + $step) % 65521;
    return $sum;
}
function middle($depth) { return $depth ? middle($depth - 1) + leaf(50) : leaf(2000); }
for (;;) {
    $words = [];
    for ($step = 0; $step < 300; $step++) {
        $words[] = sprintf('%d:%s', $step, str_repeat('x', $step % 9));
    }
    usort($words, fn($left, $right) => strcmp($right, $left));
    middle(strlen(preg_replace('/\d+/', '<$0>', implode(',', $words))) % 20);
}
