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
fn after_a_damaged_file_there_is_a_rest() {
    let a = Script::always(Act::Hang);
    let mut story = Story::of([&a]);
    left(&story, &a);
    story.files("a").iter().take(2).for_each(|file| damage(file));
    story.pace = SLOW;
    let delivery = story.start();
    let lost = |counts: &Counts| of(counts, "a").ledger.lost.total();
    wait_until(&delivery, |counts| lost(counts) == 1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(lost(&delivery.counts()), 1, "the next is not looked at at once");
}

/// A story without waits by itself, with windows 1 to 3, of which the disk does not give the first. Gives what is
/// in its place.
fn unread(a: &Script) -> (Story, Delivery, PathBuf) {
    let story = Story { pace: Pace { between: Duration::ZERO, ..SLOW }, ..Story::of([a]) };
    let delivery = story.start();
    accept_all(&delivery, 1..=3);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    let file = story.files("a").remove(0);
    std::fs::rename(&file, story.root.path().join("kept")).expect("moved");
    // Its first page is not there, and reading that is EIO.
    std::os::unix::fs::symlink("/proc/self/mem", &file).expect("made");
    (story, delivery, file)
}

#[test]
fn a_disk_that_is_away_for_a_while_costs_no_window() {
    let a = Script::of([later(Failure::Unreachable)]);
    let (story, delivery, file) = unread(&a);
    delivery.reload(&story.settings).expect("it can be followed");
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.count(Failure::Disk) == 1);
    std::fs::rename(story.root.path().join("kept"), file).expect("moved");
    delivery.reload(&story.settings).expect("it can be followed");
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!((a.delivered(), of(&counts, "a").ledger.lost.total()), (vec![1, 2, 3], 0));
}

#[test]
fn a_file_that_the_disk_never_gives_holds_up_the_others_for_ten_times() {
    let a = Script::of([later(Failure::Unreachable)]);
    let (story, delivery, _) = unread(&a);
    for times in 1..10 {
        delivery.reload(&story.settings).expect("it can be followed");
        wait_until(&delivery, |counts| {
            of(counts, "a").attempts.later.count(Failure::Disk) == times
        });
    }
    assert_eq!(of(&delivery.counts(), "a").ledger.lost.total(), 0);
    delivery.reload(&story.settings).expect("it can be followed");
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!((a.delivered(), of(&counts, "a").set_aside), (vec![2, 3], 1));
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::Damaged), 1);
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
