//! Pins the verifier's cost of each program in a committed table, so that a diff shows growth.
//!
//! `UPDATE_EXPECT=1 ./dev test verifier` accepts new figures.
#![allow(clippy::unwrap_used)]

mod common;

use everytick::kernel::abi::CgroupKey;
use everytick::kernel::{
    CpuSelection, Filters, SIDE_BAND_BYTES, SamplerConfig, Unwinder, verifier_costs,
};
use expect_test::expect_file;

/// Returns a configuration with everything enabled, so that no code is dead.
fn full_config() -> SamplerConfig {
    SamplerConfig {
        frequency: 99,
        kernel_stacks: true,
        user_stacks: true,
        idle: false,
        follows_command: true,
        whole_machine: false,
        perf_samples: true,
        runtimes: true,
        filters: Filters {
            processes: vec![(1, 0)],
            threads: vec![(1, 0)],
            cgroups: vec![CgroupKey { id: 1, hierarchy: 0 }],
            comms: vec![everytick::kernel::abi::CommKey::new("x")],
        },
        cpus: CpuSelection::default(),
        pid_namespace: Some(1),
        kernel_frames_limit: 127,
        unwinder: Unwinder::Loop,
        user_frames_limit: 1024,
        tick_limit: 150_000,
        ring_bytes: 1 << 20,
        side_band_bytes: SIDE_BAND_BYTES,
    }
}

#[test]
fn verifier_cost_of_each_program_is_as_committed() {
    let _alone = common::alone();
    let plain = SamplerConfig {
        follows_command: false,
        perf_samples: false,
        filters: Filters::default(),
        pid_namespace: None,
        ..full_config()
    };
    let mut table = String::from("program         instructions   states  stack\n");
    let tail_calls = SamplerConfig { unwinder: Unwinder::TailCalls, ..plain.clone() };
    let tail_calls_with_all = SamplerConfig { unwinder: Unwinder::TailCalls, ..full_config() };
    let variants = [
        ("as usual", plain),
        ("with every filter", full_config()),
        ("as usual, by tail calls", tail_calls),
        ("with every filter, by tail calls", tail_calls_with_all),
    ];
    for (title, config) in variants {
        table.push_str(&format!("# {title}\n"));
        let costs = verifier_costs(&config).unwrap();
        assert!(!costs.is_empty(), "the kernel returned no statistics");
        for cost in costs {
            assert!(
                cost.instructions < 36_000 && cost.states < 1_700,
                "{cost}: far more than before; find out why before you raise this limit"
            );
            table.push_str(&format!("{cost}\n"));
        }
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let series: Vec<&str> = release.split('.').take(2).collect();
    expect_file![format!("golden/verifier-{}.txt", series.join("."))].assert_eq(&table);
}
