//! Files of the spool that are damaged, gone, or not ours.

use super::*;

/// Leaves windows 1 to 5 in the spool of a story whose sink then works.
fn left(story: &Story, script: &Script) {
    let delivery = story.start();
    accept_all(&delivery, 1..=5);
    delivery.stop(Duration::ZERO);
    script.heal();
    assert_eq!(story.files("a").len(), 5);
}

#[test]
fn damaged_files_are_set_aside_and_counted_and_the_others_arrive() {
    let a = Script::always(Act::Hang);
    let story = Story::of([&a]);
    left(&story, &a);
    let files = story.files("a");
    damage(&files[1]);
    std::fs::write(&files[3], "").expect("written");
    let delivery = story.start();
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(counts.sinks["a"].ledger.lost.count(Failure::Damaged), 2);
    assert_eq!(counts.sinks["a"].set_aside, 2);
    assert_eq!(a.delivered(), [1, 3, 5]);
    let aside = story.settings.spool.directory.join("a/damaged");
    assert_eq!(std::fs::read_dir(aside).expect("there").count(), 2);
}

#[test]
fn a_file_that_goes_while_we_wait_is_counted() {
    let a = Script::of([later(Failure::Unreachable)]);
    let story = Story { pace: SLOW, ..Story::of([&a]) };
    let delivery = story.start();
    accept_all(&delivery, 1..=3);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    std::fs::remove_file(&story.files("a")[1]).expect("removed");
    let counts = delivery.stop(PATIENCE);
    counts.check().expect("the ledger closes");
    assert_eq!(a.delivered(), [1, 3]);
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::Damaged), 1);
}

#[test]
fn foreign_files_are_left_alone() {
    let a = Script::default();
    let story = Story::of([&a]);
    let directory = story.settings.spool.directory.join("a");
    std::fs::create_dir_all(directory.join("00000000000000000001-000000.pprof.zst")).expect("made");
    std::fs::write(directory.join("notes.txt"), "mine").expect("written");
    let link = directory.join("00000000000000000002-000000.pprof.zst");
    std::os::unix::fs::symlink("/etc/passwd", &link).expect("made");
    let delivery = story.start();
    accept_all(&delivery, [3]);
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(of(&counts, "a").ledger.found, 0);
    assert_eq!(a.delivered(), [3]);
    assert_eq!(std::fs::read_dir(&directory).expect("there").count(), 3);
}

#[test]
fn a_spool_that_somebody_removed_is_made_anew() {
    let a = Script::default();
    let story = Story::of([&a]);
    let delivery = story.start();
    accept_all(&delivery, [1]);
    wait_until_nothing_waits(&delivery);
    std::fs::remove_dir_all(&story.settings.spool.directory).expect("removed");
    accept_all(&delivery, [2]);
    wait_until_nothing_waits(&delivery);
    assert_eq!(a.delivered(), [1, 2]);
}
