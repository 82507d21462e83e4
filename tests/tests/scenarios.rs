//! Every scenario, in one test binary: each is a file in `scenarios/` whose first lines say what it proves.
//!
//! `cargo test -p devour-tests --test scenarios -- NAME` runs those whose name contains NAME. Where there is no Kafka
//! they are ignored with the reason, or fail under `DEVOUR_TEST_REQUIRE_KAFKA=1`.

use std::process::ExitCode;

use devour_tests::scenario::{self, Scenario};

/// Declares each file as a module and lists it with its first lines.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod scenarios { $(pub mod $name;)* }
        fn all() -> Vec<Scenario> {
            vec![$(Scenario {
                name: stringify!($name),
                text: include_str!(concat!("scenarios/", stringify!($name), ".rs")),
                runs: scenarios::$name::RUNS,
            }),*]
        }
    };
}

scenarios! {
    aborted_transactions,
    async_digests,
    broker_restart,
    by_hand,
    buffering,
    churn,
    commit_retries,
    compaction_gaps,
    every_message_once,
    exactly_once,
    exactly_once_refused,
    exactly_once_stop,
    exactly_once_zombie,
    consumer_timeout,
    auto_commit_off,
    auto_offset_reset,
    reset_offset_on_start,
    own_offsets,
    outputs,
    outputs_survive_kills,
    outputs_wait_for_brokers,
    broker_lost,
    offsets_moved,
    topic_made_again,
    partitions_grow,
    rolling_restart,
    schema_cut,
    failing_digest,
    full_batches,
    finished_beyond,
    abi_versions,
    autoload,
    check,
    control_socket,
    dead_letter_bytes,
    dead_letter_replay,
    dead_letter_waits,
    fixture_broker,
    fixture_broker_restart,
    fixture_cluster,
    fixture_request_log,
    fixture_tls,
    held_beyond_a_panic,
    frozen,
    inspect,
    internal_topics,
    settings_precedence,
    sigkill_out_of_order,
    unsafe_places,
    usage,
    daemon_killed,
    hostile_blocks,
    hostile_crashes,
    hostile_descriptors,
    hostile_floods,
    limits,
    many_restarts,
    panic_abort,
    secrets,
    json_values,
    kill_midway,
    killing_message,
    lag_and_memory,
    lanes,
    large_in_flight,
    large_message,
    large_outputs,
    missed_deadline,
    little_metadata,
    leave_midway,
    new_topic,
    notify_socket,
    pid_one,
    plugin_dropped,
    plugin_kills_itself,
    plugin_sigkilled,
    poison_message,
    produce_command,
    orders_killed,
    queued_max_messages,
    rate_limited,
    release_after,
    reload,
    restarts_by_hand,
    restart_budget,
    real_systemd,
    routes_dir,
    second_consumer,
    signals,
    slow_digest,
    source_address,
    stalled_partition,
    status,
    stop_midway,
    swaps,
    swaps_while_members_change,
    reloads_in_a_row,
    tls_client_certificate,
    tombstones_headers_null_keys,
    two_clusters,
}

fn main() -> ExitCode {
    scenario::main(env!("CARGO_BIN_EXE_devourd-under-test"), &all())
}
