//! The rules of splitting, retrying and giving up, without a server.

use super::*;
use crate::batch::tests::batch;

/// Returns pieces of so many samples each.
fn pieces(sizes: &[usize]) -> Vec<Piece> {
    let mut next = 0;
    let mut piece = |size: &usize| {
        let samples = (next..next + size).collect();
        next += size;
        Piece::of_series(profile::Labels::default(), samples)
    };
    sizes.iter().map(&mut piece).collect()
}

/// Four samples, which were seen 1, 2, 4 and 8 times.
fn four() -> Batch {
    batch(7, &[(&[], 1), (&[], 2), (&[], 4), (&[], 8)])
}

fn plan(acceptance: Acceptance, sizes: &[usize]) -> SendPlan {
    let mut plan = SendPlan::new(acceptance);
    plan.begin(&four(), || pieces(sizes));
    plan
}

fn failed(disposition: Disposition, text: &str) -> FailedRequest {
    FailedRequest { disposition, after: None, text: text.to_owned() }
}

fn too_large(plan: &mut SendPlan, length: usize) -> Option<Answer> {
    plan.failed(failed(Disposition::Split { is_limit_stated: false }, "413"), length)
}

fn sizes(pieces: &[Piece]) -> Vec<usize> {
    pieces.iter().map(|piece| piece.samples().len()).collect()
}

fn front(plan: &SendPlan) -> Vec<&[usize]> {
    plan.front().unwrap().iter().map(Piece::samples).collect()
}

#[test]
fn halves_have_about_as_many_samples() {
    let of = |sizes_of: &[usize]| {
        piece::halves(&pieces(sizes_of)).map(|halves| halves.map(|half| sizes(&half)))
    };
    assert_eq!(of(&[1, 1, 1, 1]), Some([vec![1, 1], vec![1, 1]]));
    assert_eq!(of(&[10, 1, 1]), Some([vec![10], vec![1, 1]]));
    assert_eq!(of(&[1, 1, 10]), Some([vec![1, 1], vec![10]]));
    assert_eq!(of(&[5]), Some([vec![2], vec![3]]));
    assert_eq!(of(&[1]), None);
}

#[test]
fn resends_nothing_that_was_accepted() {
    let mut plan = plan(Acceptance::Whole, &[2, 2]);
    plan.split_front("too large");
    plan.accepted(100, 0, "");
    // The attempt ends here; the next begins.
    plan.begin(&four(), || panic!("it is the same batch"));
    assert_eq!(front(&plan), [[2, 3]]);
    plan.accepted(50, 0, "");
    assert!(plan.front().is_none());
    assert_eq!(plan.answer(), Answer::Delivered { bytes: 150 });
    let of_another_machine = batch(7, &[(&[("node", "b")], 15)]);
    plan.begin(&of_another_machine, || pieces(&[1]));
    assert!(plan.front().is_some());
}

#[test]
fn rejects_only_the_stack_that_is_too_large() {
    let mut plan = plan(Acceptance::Whole, &[2, 2]);
    for _ in 0..3 {
        plan.split_front("413");
    }
    for _ in 0..2 {
        plan.accepted(1, 0, "");
    }
    assert_eq!(plan.answer(), Answer::Partly { bytes: 2, rejected: 1, text: "413".into() });
}

#[test]
fn gives_up_after_ten_413_responses() {
    let mut plan = SendPlan::new(Acceptance::Whole);
    for attempt in 1..=ATTEMPTS_MAX {
        plan.begin(&four(), || pieces(&[4]));
        let answer = too_large(&mut plan, 1_000);
        let is_later = matches!(answer, Some(Answer::Later { reason: Failure::TooLarge, .. }));
        assert_eq!(is_later, attempt < ATTEMPTS_MAX);
    }
    let Answer::Rejected { reason, text } = plan.answer() else { panic!("not rejected") };
    assert_eq!(reason, Failure::TooLarge);
    assert!(text.contains("10 times"), "{text}");
}

#[test]
fn believes_413_once_another_request_was_accepted() {
    let mut plan = plan(Acceptance::Whole, &[4]);
    assert!(too_large(&mut plan, 1_000).is_some());
    assert_eq!(front(&plan), [[2, 3]], "the other half goes first");
    plan.accepted(1, 0, "");
    for samples in [vec![0, 1], vec![0]] {
        assert_eq!(front(&plan), [samples]);
        assert_eq!(too_large(&mut plan, 1_000), None);
    }
    assert!(too_large(&mut plan, 1_000).is_some(), "nothing was accepted since");
    plan.accepted(1, 0, "");
    assert_eq!(plan.answer(), Answer::Partly { bytes: 2, rejected: 1, text: "413".into() });
}

#[test]
fn splits_a_large_request_at_once() {
    let mut plan = plan(Acceptance::Whole, &[4]);
    assert_eq!(too_large(&mut plan, REQUEST_BYTES_MIN + 1), None);
    assert_eq!(lower_limit(9 << 20, 2 << 20), 1 << 20);
    assert_eq!(lower_limit(9 << 20, 70_000), REQUEST_BYTES_MIN);
    assert_eq!(lower_limit(9 << 20, 1_000), 9 << 20, "its size was not the reason");
}

#[test]
fn counts_what_the_server_left_out() {
    let mut plan = plan(Acceptance::Whole, &[4]);
    plan.accepted(9, 3, "label too long");
    let expected = Answer::Partly { bytes: 9, rejected: 3, text: "label too long".into() };
    assert_eq!(plan.answer(), expected);
}

#[test]
fn gives_up_a_request_after_ten_server_errors() {
    let mut plan = SendPlan::new(Acceptance::Whole);
    for attempt in 1..=ATTEMPTS_MAX {
        plan.begin(&four(), || pieces(&[4]));
        let answer = plan.failed(failed(Disposition::RetryBounded, "INTERNAL"), 1_000);
        assert_eq!(answer.is_none(), attempt == ATTEMPTS_MAX);
    }
    let Answer::Rejected { reason, text } = plan.answer() else { panic!("not rejected") };
    assert_eq!(reason, Failure::Rejected);
    assert!(text.contains("10 times"), "{text}");
}

#[test]
fn a_partly_accepted_request_resends_failed_pieces_alone() {
    let mut plan = plan(Acceptance::PerPiece, &[1, 1, 1, 1]);
    plan.shorten_front(3);
    plan.accepted_except(&[0, 2]);
    assert_eq!(front(&plan), [[0]]);
    plan.accepted(10, 0, "");
    assert_eq!(front(&plan), [[2]]);
    let text = "try later";
    let later = plan.failed(failed(Disposition::Retry(Failure::Throttled), text), 100);
    assert!(matches!(later, Some(Answer::Later { .. })));
    plan.begin(&four(), || panic!("it is the same batch"));
    assert_eq!(front(&plan), [[2]], "its fate is unknown, so pieces go one by one");
}

#[test]
fn pieces_are_grouped_again_after_a_broken_connection() {
    let mut plan = plan(Acceptance::PerPiece, &[1, 1, 1, 1]);
    plan.shorten_front(2);
    plan.failed(failed(Disposition::Retry(Failure::Unreachable), "refused"), 100);
    plan.begin(&four(), || panic!("it is the same batch"));
    assert_eq!(front(&plan).len(), 4);
}

#[test]
fn a_suspect_goes_last_and_is_given_up_if_others_arrive() {
    let mut plan = plan(Acceptance::PerPiece, &[1, 1]);
    plan.accepted_except(&[0, 1]);
    for _ in 0..ATTEMPTS_MAX {
        let answer = plan.failed(failed(Disposition::RetryBounded, "internal"), 100);
        assert!(answer.is_some(), "nothing was accepted, so it may not be the reason");
        plan.begin(&four(), || panic!("it is the same batch"));
        if front(&plan) == [[1]] {
            plan.pending.rotate_left(1);
        }
    }
    plan.pending.rotate_left(1);
    assert_eq!(front(&plan), [[1]]);
    plan.accepted(5, 0, "");
    assert_eq!(plan.failed(failed(Disposition::RetryBounded, "internal"), 100), None);
    assert!(matches!(plan.answer(), Answer::Partly { rejected: 1, .. }));
}

#[test]
fn splits_a_piece_within_its_request() {
    let mut plan = plan(Acceptance::PerPiece, &[1, 3]);
    plan.split_piece(1, "too large");
    assert_eq!(front(&plan), [&[0][..], &[1], &[2, 3]]);
    plan.split_piece(1, "too large");
    assert_eq!(front(&plan), [&[0][..], &[2, 3]]);
    plan.accepted(7, 0, "");
    assert_eq!(plan.answer(), Answer::Partly { bytes: 7, rejected: 2, text: "too large".into() });
}
