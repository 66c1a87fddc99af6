<?php
// Two fibers that work and suspend themselves.
function leaf($count) {
    $sum = 0;
    for ($step = 0; $step < $count; $step++) $sum += strlen(str_repeat('x', $step % 50));
    return $sum;
}
function middle($depth) { return $depth ? middle($depth - 1) + leaf(20) : leaf(500); }
function body() {
    for (;;) {
        array_map('middle', [1, 5, 9]);
        Fiber::suspend();
    }
}
$fibers = [new Fiber('body'), new Fiber('body')];
foreach ($fibers as $fiber) $fiber->start();
for (;;) foreach ($fibers as $fiber) $fiber->resume();
