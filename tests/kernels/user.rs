//! Recordings by a user without privileges. `user.sh` runs in the guest.

use crate::guest::Guest;
use crate::stacks::check_chain;

pub fn check(guest: &Guest) {
    let (text, status) = guest.answer("user_denied");
    let reason = "because kernel.perf_event_paranoid is 3; run it as root";
    assert!(*status == 1 && text.contains(reason), "{text}");
    for (record, folded) in [("user_record", "user_folded"), ("user_attach", "attach_folded")] {
        let (text, _) = guest.answer(record); // so slow a reader may lose samples
        assert!(text.contains("kernel code and other processes are not sampled"), "{text}");
        check_chain(&guest.folded(folded), 50);
    }
}
