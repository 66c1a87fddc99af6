//! One writer for a spool and for a store.

use super::*;

/// Returns a fixture with a spool of its own that writes into this store.
fn writing_to(store: &Path) -> Fixture {
    let mut fixture = Fixture::new([&ScriptedSink::default()]);
    fixture.config.sinks[0].settings = SinkConfig::File(store_config(store.to_owned()));
    fixture
}

#[test]
fn a_second_agent_with_the_same_store_does_not_start() {
    let root = tempfile::tempdir().expect("a directory");
    let store = root.path().join("store");
    let (first, second) = (writing_to(&store), writing_to(&store));
    let delivery = first.start();
    let error = second.try_start().err().expect("in use").to_string();
    let expected = format!(
        "the store {} is written by another everytick; stop that one, or give this one another \
         directory",
        store.display()
    );
    assert_eq!(error, expected);
    accept_all(&delivery, 1..=3);
    wait_until_delivered(&delivery);
    delivery.stop(TEST_TIMEOUT);
    let delivery = start_when_free(&second);
    accept_all(&delivery, 4..=5);
    wait_until_delivered(&delivery);
    let listing = directory::windows_in(&store, 0, u64::MAX).expect("readable");
    assert_eq!(listing.windows.len(), 5);
}

#[test]
fn a_starting_agent_waits_for_one_that_stops() {
    let root = tempfile::tempdir().expect("a directory");
    let store = root.path().join("store");
    let (first, mut second) = (writing_to(&store), writing_to(&store));
    second.pacing.lock_wait = TEST_TIMEOUT;
    let delivery = first.start();
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        delivery.stop(TEST_TIMEOUT);
    });
    second.try_start().expect("starts after the first").stop(TEST_TIMEOUT);
    stopping.join().expect("no panic");
}

#[test]
fn two_sinks_cannot_share_a_store_and_a_reload_is_rejected() {
    let root = tempfile::tempdir().expect("a directory");
    let fixture = writing_to(&root.path().join("store"));
    let delivery = fixture.start();
    let mut config = fixture.config.clone();
    let settings = config.sinks[0].settings.clone();
    config.sinks.push(NamedSink { name: "b".into(), settings });
    let error = delivery.reload(&config).expect_err("in use");
    assert!(matches!(error, StartError::StoreInUse(_)), "{error}");
    accept_all(&delivery, [1]);
    wait_until_delivered(&delivery);
}

#[test]
fn a_reload_of_the_bounds_keeps_the_lock() {
    let root = tempfile::tempdir().expect("a directory");
    let store = root.path().join("store");
    let fixture = writing_to(&store);
    let delivery = fixture.start();
    let mut config = fixture.config.clone();
    let mut settings = store_config(store.clone());
    settings.retention.max_bytes = 1 << 20;
    config.sinks[0].settings = SinkConfig::File(settings);
    delivery.reload(&config).expect("valid");
    accept_all(&delivery, 1..=2);
    wait_until_delivered(&delivery);
    assert!(writing_to(&store).try_start().is_err());
}

#[test]
fn a_read_only_or_missing_store_is_no_reason_not_to_start() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("file"), "").expect("written");
    let fixture = writing_to(&root.path().join("file/store"));
    let delivery = fixture.start();
    accept_all(&delivery, [1]);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.count(Failure::Disk) >= 1);
}

fn start_when_free(fixture: &Fixture) -> Delivery {
    let start = Instant::now();
    loop {
        match fixture.try_start() {
            Err(StartError::StoreInUse(_)) if start.elapsed() < TEST_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(1));
            }
            started => return started.expect("starts"),
        }
    }
}
