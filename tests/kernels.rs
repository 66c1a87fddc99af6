//! Older kernels boot in emulated machines, where everytick profiles programs without frame
//! pointers whose stacks are known by construction, and follows CPUs that go offline and come
//! online.
//!
//! `./dev setup test` fetches the kernels, and `kernels/init.sh` runs in each guest. The guests run
//! at the same time, because they wait more than they compute. An emulated machine is slow and
//! uneven, so these tests check which stacks come, not how many or when.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "kernels/guest.rs"]
mod guest;
#[path = "kernels/hotplug.rs"]
mod hotplug;
#[path = "kernels/machine.rs"]
mod machine;
#[path = "kernels/stacks.rs"]
mod stacks;
#[path = "kernels/user.rs"]
mod user;

use std::sync::LazyLock;

use guest::Guest;
use stacks::{check_doctor, check_filters, check_stacks, is_cut_after_512, is_recursion};

/// What the guest of each kernel has answered.
struct Guests {
    linux_5_10: Guest,
    linux_6_1: Guest,
}

static GUESTS: LazyLock<Guests> = LazyLock::new(|| {
    let [linux_5_10, linux_6_1] = Guest::boot(["5.10", "6.1"]);
    Guests { linux_5_10, linux_6_1 }
});

#[test]
fn linux_5_10_unwinds_512_frames_by_tail_calls() {
    let guest = &GUESTS.linux_5_10;
    check_doctor(guest, 512);
    check_stacks(guest, is_cut_after_512);
    check_filters(guest);
    // This kernel charges memory to RLIMIT_MEMLOCK, and everytick may not raise it here. That
    // matters only if the limit is low.
    guest.text("limited");
    let (text, status) = guest.answer("too_limited");
    assert!(*status == 1 && text.contains("RLIMIT_MEMLOCK"), "{text}");
}

#[test]
fn linux_6_1_unwinds_900_frames() {
    let guest = &GUESTS.linux_6_1;
    check_doctor(guest, 1024);
    check_stacks(guest, |stack| is_recursion(stack, 900));
    check_filters(guest);
    guest.text("too_limited"); // this kernel charges memory to the cgroup
}

#[test]
fn linux_5_10_lets_users_profile_own_processes() {
    user::check(&GUESTS.linux_5_10);
}

#[test]
fn linux_6_1_lets_users_profile_own_processes() {
    user::check(&GUESTS.linux_6_1);
}

#[test]
fn linux_5_10_follows_cpus() {
    hotplug::check(&GUESTS.linux_5_10);
}

#[test]
fn linux_6_1_follows_cpus() {
    hotplug::check(&GUESTS.linux_6_1);
}
